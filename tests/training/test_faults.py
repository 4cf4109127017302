"""Whatever happens to a run ends in one line, leaves the last good state, and is made good by --resume."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import forks
import pytest
import torch
from safetensors.torch import load_file

import train_model
import train_tinyllama
from utils import base_models, records, wandb_login
from utils.console import UserError
from utils.records import Record
from utils.training import artifacts, disk, preflight
from utils.training.trainer import ChatTrainer

ROOT = Path(__file__).resolve().parents[2]
MARKER = "xyzzyplugh"
STEPS = 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Six records of six conversations, every text with a marker that must turn up nowhere else."""
    folder = tmp_path_factory.mktemp("data") / "processed"
    made = [
        Record(instruction=f"{word} {MARKER}?", output=f"{MARKER} {word} fair enough", system=f"You are {MARKER}.")
        for word in ("hello", "the cat", "soup", "keyboard", "fine", "thanks")
    ]
    records.write(folder / "train.jsonl", made)
    records.write(folder / "validation.jsonl", made[:2])
    return folder


@pytest.fixture(scope="module")
def flags(tiny_base, prepared):
    """Flags of a run of six steps into a folder, with a checkpoint after every second one."""

    def of(folder: Path, *more: str) -> list[str]:
        return [
            *("--base-model", str(tiny_base), "--data-dir", str(prepared), "--output-dir", str(folder)),
            *("--device", "cpu", "--wandb", "off", "--quantization", "none", "--final-weights", "last"),
            *("--batch-size", "1", "--gradient-accumulation-steps", "2", "--epochs", "2", "--evaluations", "1"),
            *("--save-every-steps", "2", "--log-every-steps", "1"),
            *more,
        ]

    return of


@pytest.fixture(scope="module")
def undisturbed(flags, tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("undisturbed") / "adapter"
    train_tinyllama.main(flags(folder))
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture
def at_step(monkeypatch):
    """Has `action` called in the middle of training, before step `number` begins for the first time."""

    def arrange(number: int, action) -> None:
        plain, actions = ChatTrainer.training_step, [action]

        def disturbed(self, *arguments, **named):
            if self.state.global_step == number - 1 and actions:
                actions.pop()(self)
            return plain(self, *arguments, **named)

        monkeypatch.setattr(ChatTrainer, "training_step", disturbed)

    return arrange


def same(folder: Path, expected: dict[str, torch.Tensor]) -> bool:
    found = load_file(folder / "adapter_model.safetensors")
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def checkpoints_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()} - {".lock"}


def one_error(log: Path) -> str:
    text = log.read_text()
    assert "Traceback" not in text, text[-3000:]
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, text
    return errors[0]


@pytest.mark.parametrize("bytes_per_file", [8_000, 100_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_a_disk_that_takes_no_more(flags, undisturbed, tmp_path, bytes_per_file):
    folder, log = tmp_path / "adapter", tmp_path / "log"

    def on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
        train_tinyllama.main(flags(folder))

    assert forks.run(on_a_full_disk, log) == 2, log.read_text()[-3000:]
    assert "there is no space left" in one_error(log)
    assert not list(folder.rglob("checkpoint-*"))
    train_tinyllama.main(flags(folder, "--resume"))
    assert same(folder, undisturbed)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_moment(flags, undisturbed, tmp_path):
    if not forks.can_mount(tmp_path):
        pytest.skip("mounting a small disk takes rights that this process lacks")
    folder, kept, log = tmp_path / "disk/adapter", tmp_path / "kept", tmp_path / "log"
    needed_kib = 1 + sum(tensor.numel() * 4 for tensor in undisturbed.values()) * 10 // 1024

    def sizes_up_to_enough() -> None:
        refusals = 0
        forks.mount_disk(folder.parent, needed_kib)
        for eighths in range(1, 9):
            forks.remount(folder.parent, f"size={needed_kib * eighths // 8}k")
            try:
                train_tinyllama.main(flags(folder))
            except UserError as error:
                assert "there is no space left" in str(error), error
                assert not (folder / "training.json").exists()
                refusals += 1
                forks.remount(folder.parent, "size=100m")
                train_tinyllama.main(flags(folder, "--resume"))
            shutil.copytree(folder, kept / str(eighths))
            shutil.rmtree(folder)
        print("refusals", refusals)

    assert forks.run(sizes_up_to_enough, log) == 0, log.read_text()[-3000:]
    assert int(log.read_text().rsplit("refusals ", 1)[1]) >= 4
    assert all(same(path, undisturbed) for path in kept.iterdir())


def test_a_disk_that_turns_read_only(flags, undisturbed, tmp_path, at_step):
    if not forks.can_mount(tmp_path):
        pytest.skip("mounting a small disk takes rights that this process lacks")
    folder, kept, log = tmp_path / "disk/adapter", tmp_path / "kept", tmp_path / "log"

    def protect(_) -> None:
        disk.release(folder / "checkpoints")  # a file that is open for writing would keep the kernel from it
        forks.remount(folder.parent, "ro")

    at_step(4, protect)

    def until_read_only() -> None:
        forks.mount_disk(folder.parent, 100_000)
        with pytest.raises(UserError, match="it can't be written"):
            train_tinyllama.main(flags(folder))
        forks.remount(folder.parent, "rw")
        assert checkpoints_in(folder) == {"checkpoint-2"}
        train_tinyllama.main(flags(folder, "--resume"))
        shutil.copytree(folder, kept)

    assert forks.run(until_read_only, log) == 0, log.read_text()[-3000:]
    assert same(kept, undisturbed)


def test_a_folder_that_can_not_be_made_is_found_before_training(flags, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"can't write checkpoints to .*taken/adapter.*: a file is in the way"):
        train_tinyllama.main(flags(tmp_path / "taken/adapter"))


def test_a_folder_without_the_right_to_write(flags, tmp_path, tiny_base, prepared):
    if os.geteuid():
        pytest.skip("only root can turn into somebody without rights")
    folder, log = tmp_path / "adapter", tmp_path / "log"
    folder.mkdir(mode=0o755)
    log.touch(mode=0o666)
    for path in (tiny_base, prepared, folder):
        for each in (*path.rglob("*"), path, *path.parents):
            if each.stat().st_uid == 0:
                each.chmod(each.stat().st_mode | 0o055)

    def as_nobody() -> None:
        os.setuid(65534)
        train_tinyllama.main(flags(folder))

    assert forks.run(as_nobody, log) == 2, log.read_text()[-3000:]
    assert "it can't be written" in one_error(log)


def test_a_loss_that_becomes_nan_leaves_the_last_good_state(flags, undisturbed, tmp_path, at_step, monkeypatch):
    def poison(chat: ChatTrainer) -> None:
        with torch.no_grad():
            next(weight for name, weight in chat.model.named_parameters() if "lora_B" in name).fill_(float("nan"))

    folder = tmp_path / "adapter"
    at_step(4, poison)
    with pytest.raises(UserError, match="the training loss became nan at step 4, so training stopped before that step"):
        train_tinyllama.main(flags(folder))
    assert checkpoints_in(folder) == {"checkpoint-2"}
    assert not (folder / "adapter_model.safetensors").exists()
    monkeypatch.undo()
    train_tinyllama.main(flags(folder, "--resume"))
    assert same(folder, undisturbed)


def test_two_runs_do_not_share_a_folder(flags, undisturbed, tmp_path, at_step, monkeypatch):
    folder, log = tmp_path / "adapter", tmp_path / "log"
    at_step(4, lambda _: os.kill(os.getpid(), signal.SIGSTOP))
    first = forks.start(lambda: train_tinyllama.main(flags(folder)), log)
    assert os.WIFSTOPPED(os.waitpid(first, os.WUNTRACED)[1]), log.read_text()
    monkeypatch.undo()
    for more in ([], ["--resume"], ["--restart"]):
        with pytest.raises(UserError, match="another run is training into"):
            train_tinyllama.main(flags(folder, *more))
    assert checkpoints_in(folder) == {"checkpoint-2"}
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    train_tinyllama.main(flags(folder, "--resume"))
    assert same(folder, undisturbed)


def test_a_second_ctrl_c_acts_at_once(flags, undisturbed, tmp_path, at_step, monkeypatch):
    folder, log = tmp_path / "adapter", tmp_path / "log"

    def twice(_) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(4, twice)
    assert forks.run(lambda: train_tinyllama.main(flags(folder)), log) == 130
    assert log.read_text().endswith("stopped by Ctrl-C\n")
    assert "Traceback" not in log.read_text()
    assert checkpoints_in(folder) == {"checkpoint-2"}
    monkeypatch.undo()
    train_tinyllama.main(flags(folder, "--resume"))
    assert same(folder, undisturbed)


@pytest.mark.parametrize(("module", "function"), [(base_models, "load_model"), (preflight, "_try")])
def test_ctrl_c_before_training_is_one_line(flags, tmp_path, monkeypatch, module, function):
    plain = getattr(module, function)

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(*arguments)

    monkeypatch.setattr(module, function, interrupted)
    folder, log = tmp_path / "adapter", tmp_path / "log"
    assert forks.run(lambda: train_tinyllama.main(flags(folder)), log) == 130
    assert log.read_text().endswith("stopped by Ctrl-C\n")
    assert "Traceback" not in log.read_text()
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_deleted_folder_is_made_anew(flags, undisturbed, tmp_path, at_step):
    folder = tmp_path / "adapter"
    at_step(4, lambda _: shutil.rmtree(folder))
    train_tinyllama.main(flags(folder))
    assert same(folder, undisturbed)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [4, 5, 6]


@pytest.mark.slow
def test_the_best_weights_that_were_deleted_are_missed_aloud(flags, tmp_path, at_step, capsys):
    folder = tmp_path / "adapter"

    def wreck(chat: ChatTrainer) -> None:
        shutil.rmtree(folder)
        with torch.no_grad():
            for name, weight in chat.model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(10)

    at_step(6, wreck)
    train_tinyllama.main(flags(folder, "--evaluations", "6", "--final-weights", "best"))
    assert "is gone: the last weights are kept instead of the best ones" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
def test_a_clock_that_runs_backwards_changes_nothing(flags, undisturbed, tmp_path, monkeypatch):
    now_s = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr("time.time", lambda: float(next(now_s)))
    train_tinyllama.main(flags(tmp_path / "adapter"))
    assert same(tmp_path / "adapter", undisturbed)


@pytest.mark.slow
def test_any_folder_name_will_do(flags, undisturbed, prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "meine Dateien [🍜] 100%")
    folder = tmp_path / "räumchen mit 🍜 & 'quotes'" / "a b"
    more = ("--data-dir", str(data))
    train_tinyllama.main(flags(folder, *more))
    (folder / "checkpoints/finished.json").unlink()
    shutil.rmtree(folder / "checkpoints/checkpoint-6")
    train_tinyllama.main(flags(folder, *more, "--resume"))
    assert same(folder, undisturbed)


@pytest.mark.slow
def test_a_cut_newest_checkpoint_is_skipped_by_name(flags, undisturbed, tmp_path, capsys):
    folder = tmp_path / "adapter"
    train_tinyllama.main(flags(folder))
    os.truncate(folder / "checkpoints/checkpoint-6/adapter_model.safetensors", 1000)
    train_tinyllama.main(flags(folder, "--resume"))
    told = capsys.readouterr()
    assert "checkpoint-6 is skipped: adapter_model.safetensors has changed" in told.err.replace("\n", " ")
    assert "going on from" in told.out
    assert same(folder, undisturbed)


def test_a_result_that_was_never_saved_is_not_dropped(flags, undisturbed, tmp_path, monkeypatch):
    """Training ended and the adapter could not be written: the checkpoints are still those of an unfinished run."""

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = tmp_path / "adapter"
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "_write", full)
        with pytest.raises(UserError, match=r"can't write the adapter to .*: there is no space left.*--resume"):
            train_tinyllama.main(flags(folder))
    with pytest.raises(UserError, match="unfinished run, saved at step 6"):
        train_tinyllama.main(flags(folder))
    train_tinyllama.main(flags(folder, "--resume"))
    assert same(folder, undisturbed)


def other_weights(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    from safetensors.torch import save_file

    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def other_template(base: Path) -> None:
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("\n{{", "\n {{"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_weights, "another base weights"),
        pytest.param(other_template, "another tokenizer", marks=pytest.mark.slow),
    ],
)
def test_a_changed_base_is_refused_by_name(flags, tiny_base, tmp_path, change, named):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    folder = tmp_path / "adapter"
    train_tinyllama.main(flags(folder, "--base-model", str(base)))
    change(base)
    with pytest.raises(UserError, match=f"checkpoint-6 can't go on with {named}"):
        train_tinyllama.main(flags(folder, "--base-model", str(base), "--resume"))


def test_other_data_are_refused_in_a_line_that_can_be_read(flags, tmp_path, data_dir):
    folder, other = tmp_path / "adapter", shutil.copytree(data_dir, tmp_path / "other")
    train_tinyllama.main(flags(folder))
    lines = (other / "train.jsonl").read_text().splitlines()
    (other / "train.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(
        UserError, match=r"another training data \(\w{12} then, \w{12} now\); put that back, name another"
    ):
        train_tinyllama.main(flags(folder, "--data-dir", str(other), "--resume"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [("--quantization", "nf4"), ("--lora-alpha", "32"), ("--seed", "1"), ("--epochs", "3")]
)
def test_a_changed_setting_is_refused_by_name(flags, tmp_path, changed):
    folder = tmp_path / "adapter"
    train_tinyllama.main(flags(folder))
    name = changed[0].removeprefix("--").replace("-", "_")
    with pytest.raises(UserError, match=rf"checkpoint-6 can't go on with another {name} \(.* then, {changed[1]} now\)"):
        train_tinyllama.main(flags(folder, *changed, "--resume"))


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_row_has_what_a_person_watches(flags, tmp_path):
    train_tinyllama.main(flags(tmp_path / "adapter", "--max-grad-norm", "0.01"))
    rows = [row for row in rows_of(tmp_path / "adapter") if "loss" in row]
    assert len(rows) == STEPS
    groups = {f"grad_norm/{group}" for group in ("attention", "mlp", "early", "middle")}
    for row in rows:
        assert row.keys() >= {
            *("learning_rate", "grad_norm", "adapter_update_norm", "tokens_per_s", "supervised_tokens_per_s"),
            "peak_memory_mib",
            *groups,
        }
        assert row["grad_norm"] > 0.01  # so that clipping had something to do
        for parts in (("attention", "mlp"), ("early", "middle")):
            squares = sum(row[f"grad_norm/{group}"] ** 2 for group in parts)
            assert squares**0.5 == pytest.approx(row["grad_norm"], rel=1e-4)
    updates = [row["adapter_update_norm"] for row in rows]
    assert updates == sorted(updates)
    assert updates[0] < updates[-1]


def test_wandb_holds_no_message_text(flags, prepared, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "adapter"
    train_tinyllama.main(flags(folder, "--wandb", "offline"))
    written = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    for path in [*written, folder / "metrics.jsonl", folder / "training.json", folder / "README.md"]:
        assert MARKER.encode() not in path.read_bytes(), path
        assert sys.executable.encode() not in path.read_bytes() and b"--save-every" not in path.read_bytes(), path
    assert MARKER.encode() in (prepared / "train.jsonl").read_bytes()


@pytest.mark.slow
def test_wandb_out_of_reach_goes_offline(flags, undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_login, "HOST", "localhost:9")  # nobody listens at the discard port
    folder = tmp_path / "adapter"
    train_tinyllama.main(flags(folder, "--wandb", "online"))
    assert "localhost:9 can't be reached; the run is offline" in capsys.readouterr().err.replace("\n", " ")
    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert same(folder, undisturbed)


def test_wandb_that_fails_to_start_is_left_out(flags, undisturbed, tmp_path, monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("service\nunavailable")

    monkeypatch.setattr("wandb.init", broken)
    train_tinyllama.main(flags(tmp_path / "adapter", "--wandb", "offline"))
    assert "W&B is off from here on: service unavailable" in capsys.readouterr().err.replace("\n", " ")
    assert same(tmp_path / "adapter", undisturbed)


LOSES_WANDB = """
import sys

import psutil
import train_tinyllama
from utils import console
from utils.training.trainer import ChatTrainer

plain = ChatTrainer.training_step

def disturbed(self, *arguments, **named):
    if self.state.global_step == 3:
        services = [each for each in psutil.Process().children(recursive=True) if "wandb-core" in each.name()]
        assert services
        for each in services:
            each.kill()
    return plain(self, *arguments, **named)

ChatTrainer.training_step = disturbed
console.run(lambda: train_tinyllama.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_wandb_that_dies_in_the_middle_does_not_stop_the_training(flags, undisturbed, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of this process, which would serve the other one as well
    folder = tmp_path / "adapter"
    command = [sys.executable, "-c", LOSES_WANDB, *flags(folder, "--wandb", "offline")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B is off from here on") == 1, done.stderr
    assert len([row for row in rows_of(folder) if "loss" in row]) == STEPS
    assert same(folder, undisturbed)


@pytest.mark.slow
def test_eight_bit_weights_train_and_resume(flags, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        train_model.main(flags(folder, "--quantization", "int8"))
    shutil.rmtree(stopped / "checkpoints/checkpoint-6")
    train_model.main(flags(stopped, "--quantization", "int8", "--resume"))
    expected = load_file(whole / "adapter_model.safetensors")
    assert same(stopped, expected)
    assert all(tensor.any() for name, tensor in expected.items() if "lora_B" in name)


@pytest.mark.slow
def test_full_fine_tuning_leaves_a_whole_model(flags, tiny_base, tmp_path):
    folder = tmp_path / "model"
    train_model.main(flags(folder, "--method", "full", "--final-weights", "best"))
    before, after = load_file(tiny_base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    manifest = json.loads((folder / "training.json").read_text())
    assert manifest["settings"]["method"] == "full"
    shutil.rmtree(folder / "checkpoints/checkpoint-6")
    train_model.main(flags(folder, "--method", "full", "--final-weights", "best", "--resume"))
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(after[name], resumed[name]) for name in after)
