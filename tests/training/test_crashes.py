"""A run killed with SIGKILL at any file operation resumes to the very weights of an undisturbed run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import forks
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

import train_tinyllama

WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.move"}


def watch(folder: Path, on_operation) -> None:
    """Calls `on_operation` after each file operation below `folder`: after, because it fires at the next one."""
    pending = False

    def hook(event: str, arguments: tuple) -> None:
        nonlocal pending
        if event not in WATCHED or not arguments or not isinstance(arguments[0], str | os.PathLike):
            return
        writes = event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if pending:
            pending = False
            on_operation()
        pending = writes and str(arguments[0]).startswith(str(folder))

    sys.addaudithook(hook)


def in_stages(writer, position: int):
    """A writer that is no Python, so that its operations go unseen, made visible: the file is empty, then whole, then
    cut in half, then whole again, as it may be when the process dies while it writes."""

    def write(*arguments, **named) -> None:
        path = Path(arguments[position])
        path.touch()
        writer(*arguments, **named)
        whole = path.read_bytes()
        os.truncate(path, len(whole) // 2)
        path.write_bytes(whole)

    return write


@pytest.fixture
def crash(tiny_base, data_dir, tmp_path, monkeypatch):
    """Trains six steps with saves, killed after the n-th file operation, then resumes; returns the final weights."""
    log = tmp_path / "log"
    monkeypatch.setattr("torch.save", in_stages(torch.save, 1))
    monkeypatch.setattr("safetensors.torch.serialize_file", in_stages(safetensors.torch.serialize_file, 1))

    def arguments(folder: Path, quantization: str) -> list[str]:
        return [
            *("--base-model", str(tiny_base), "--data-dir", str(data_dir), "--output-dir", str(folder)),
            *("--device", "cpu", "--wandb", "off", "--quantization", quantization, "--final-weights", "last"),
            *("--batch-size", "1", "--gradient-accumulation-steps", "2", "--epochs", "3"),
            *("--save-every-steps", "2", "--keep-checkpoints", "1", "--evaluations", "1"),
        ]

    def killed_after(operation: int, folder: Path, quantization: str) -> int:
        def work() -> None:
            seen = 0

            def count() -> None:
                nonlocal seen
                seen += 1
                if seen == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

            watch(folder, count)
            train_tinyllama.main(arguments(folder, quantization))
            print("operations", seen)

        return forks.run(work, log)

    def weights(operation: int, quantization: str) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"run-{quantization}-{operation}"
        status = killed_after(operation, folder, quantization)
        assert status == (-signal.SIGKILL if operation else 0), log.read_text()[-2000:]
        if operation:
            resumed = forks.run(lambda: train_tinyllama.main([*arguments(folder, quantization), "--resume"]), log)
            assert resumed == 0, log.read_text()[-2000:]
        return load_file(folder / "adapter_model.safetensors")

    weights.log = log
    return weights


def check_every(crash, quantization: str, stride: int) -> None:
    undisturbed = crash(0, quantization)
    operations = int(crash.log.read_text().rsplit("operations ", 1)[1].split()[0])
    assert operations > 100
    print(f"{quantization}: killed after {len(range(1, operations + 1, stride))} of {operations} file operations")
    for operation in range(1, operations + 1, stride):
        resumed = crash(operation, quantization)
        assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed), operation


def test_killed_at_some_file_operations(crash):
    check_every(crash, "nf4", stride=37)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_killed_after_every_file_operation(crash, quantization):
    check_every(crash, quantization, stride=1)
