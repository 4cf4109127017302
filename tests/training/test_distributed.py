"""Two processes learn what one learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import train_model

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]


@pytest.fixture
def arguments(tiny_base, data_dir):
    return [
        *("--base-model", str(tiny_base), "--data-dir", str(data_dir), "--device", "cpu", "--wandb", "off"),
        *("--max-steps", "4", "--lora-dropout", "0", "--batch-size", "2", "--gradient-accumulation-steps", "2"),
        *("--micro-batch-tokens", "32", "--log-every-steps", "1", "--save-every-steps", "2"),
    ]


def launch(command: list[str]) -> str:
    """What the processes printed; they must end well."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_alike(alone: Path, together: Path, *, rounding: float) -> None:
    """`rounding` is the relative error that the losses may differ by; what follows from them may by a multiple."""
    for one, two in zip(rows_of(alone), rows_of(together), strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - {"tokens_per_s", "supervised_tokens_per_s", "peak_memory_mib"}:
            share = rounding if "loss" in name else 100 * rounding
            if "runtime" not in name and "per_second" not in name:
                assert two[name] == pytest.approx(one[name], rel=share, abs=1e-5), (one["step"], name)
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (alone, together)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).norm() < 1000 * rounding * tensor.norm(), name


def test_two_processes_get_the_losses_and_weights_of_one(arguments, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_model.main([*arguments, "--output-dir", str(one)])
    told = launch([*TORCHRUN, "train_model.py", *arguments, "--output-dir", str(two)])
    assert told.count("step    4/4  validation perplexity") == 1  # one process speaks
    check_alike(one, two, rounding=1e-5)
    assert {path.name for path in (two / "checkpoints/checkpoint-4").glob("rng_state*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("config", "script"),
    [("distributed.yaml", []), ("distributed-fsdp.yaml", ["tests/training/fsdp_on_cpu.py"])],
)
def test_the_presets_of_the_launcher(arguments, tmp_path, config, script, quantization):
    """A run of two processes equals that of one, and goes on from its checkpoint as if nothing had happened."""
    arguments = [*arguments, "--quantization", quantization]
    one, two = tmp_path / "one", tmp_path / "two"
    train_model.main([*arguments, "--output-dir", str(one)])
    preset = yaml.safe_load((ROOT / "configs" / config).read_text())
    (tmp_path / config).write_text(yaml.safe_dump(preset | {"use_cpu": True}))
    command = [*ACCELERATE, str(tmp_path / config), *script, "train_model.py", *arguments, "--output-dir", str(two)]
    launch(command)
    check_alike(one, two, rounding=1e-4 if script else 1e-5)  # FSDP multiplies in another order, bfloat16 perhaps
    assert len(list((two / "checkpoints/checkpoint-4").glob("rng_state_?.pth"))) == 2
    whole = load_file(two / "adapter_model.safetensors")
    for path in sorted((two / "checkpoints/checkpoint-4").iterdir()):
        path.unlink()
    (two / "checkpoints/checkpoint-4").rmdir()
    assert "going on from" in launch([*command, "--resume"])
    resumed = load_file(two / "adapter_model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_stops_both_after_the_same_step(arguments, tmp_path, number):
    folder = tmp_path / "adapter"
    flags = ["--max-steps", "300", "--save-every-steps", "1000", "--evaluations", "1", "--output-dir", str(folder)]
    script = [sys.executable, "-u", "train_model.py", *arguments, *flags]
    rendezvous = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29533", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            script,
            cwd=ROOT,
            env=os.environ | rendezvous | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = ""
    for line in processes[0].stdout:
        told += line
        if "step    5/300" in line:
            processes[1].send_signal(number)
    assert [process.wait(60) for process in processes] == [128 + signal.SIGTERM, 128 + number], told
    assert "saved; go on with the same command and --resume" in told
    assert len(list((folder / "checkpoints").glob("checkpoint-*"))) == 1
