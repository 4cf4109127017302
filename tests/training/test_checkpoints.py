"""A checkpoint is whole or absent, and never resumed with anything changed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from utils.base_models import sha256
from utils.console import UserError
from utils.training import checkpoints
from utils.training.settings import TrainingSettings

RUN = {"training data": "abc", "learning_rate": "0.0002"}


def save(root: Path, step: int, content: str = "weights", run: dict[str, str] = RUN) -> Path:
    with checkpoints.staged(root, step, run) as staging:
        folder = staging / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter.bin").write_text(content)
        (folder / "optimizer.pt").write_text("moments")
    return root / f"checkpoint-{step}"


def test_a_checkpoint_appears_whole(tmp_path):
    folder = save(tmp_path, 10)
    assert {path.name for path in folder.iterdir()} == {"adapter.bin", "optimizer.pt", checkpoints.MANIFEST}
    assert checkpoints.newest_intact(tmp_path, RUN).folder == folder
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


def test_files_are_on_the_disk_before_their_folder_has_its_name(tmp_path, monkeypatch):
    """What a power cut would show, and SIGKILL can't."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (synced.append(0), rename(self, target))[1])
    folder = save(tmp_path, 10)
    published = synced.index(0)
    assert {path.stat().st_ino for path in [folder, *folder.iterdir()]} == set(synced[:published])
    assert synced[published + 1 :] == [tmp_path.stat().st_ino]


def test_a_save_that_fails_midway_leaves_nothing(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(ZeroDivisionError), checkpoints.staged(tmp_path, 20, RUN) as staging:
        (staging / "checkpoint-20").mkdir()
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "there is no space left"),
        (OSError(errno.EROFS, "Read-only file system"), "it can't be written"),
        (RuntimeError("PytorchStreamWriter failed writing file"), "there is no space left, or it can't be written"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "there is no space left"),
        (Exception("No space left on device (os error 28)"), "there is no space left"),  # as tokenizers has it
    ],
)
def test_a_disk_that_fails_is_one_line_and_keeps_the_last_checkpoint(tmp_path, error, reason):
    save(tmp_path, 10)
    refused = pytest.raises(UserError, match=f"can't write a checkpoint to .*: {reason};")
    with refused, checkpoints.staged(tmp_path, 20, RUN):
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    assert checkpoints.newest_intact(tmp_path, RUN).folder == tmp_path / "checkpoint-10"


def test_another_error_of_a_save_keeps_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match="shape mismatch"), checkpoints.staged(tmp_path, 20, RUN):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize(
    "damage",
    ["missing", "changed", "cut", "added", "no manifest", "half a manifest", "a list for a manifest", "no file listed"],
)
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path, capsys, damage):
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    if damage == "missing":
        (newest / "optimizer.pt").unlink()
    elif damage == "changed":
        (newest / "adapter.bin").write_text("weighty")
    elif damage == "cut":
        os.truncate(newest / "optimizer.pt", 3)
    elif damage == "added":
        (newest / "pytorch_model.bin").write_text("foreign")
    elif damage == "a list for a manifest":
        (newest / checkpoints.MANIFEST).write_text("[]")
    elif damage == "no file listed":
        for name in ("optimizer.pt", "adapter.bin"):
            (newest / name).unlink()
        manifest = json.loads((newest / checkpoints.MANIFEST).read_text())
        (newest / checkpoints.MANIFEST).write_text(json.dumps(manifest | {"sha256": {}}))
    elif damage == "no manifest":
        (newest / checkpoints.MANIFEST).unlink()
    else:
        (newest / checkpoints.MANIFEST).write_text('{"sha256": {')
    assert checkpoints.newest_intact(tmp_path, RUN).folder == tmp_path / "checkpoint-10"
    assert "checkpoint-20 is skipped" in capsys.readouterr().err.replace("\n", "")


def test_nothing_to_resume(tmp_path):
    assert checkpoints.newest_intact(tmp_path / "nowhere", RUN) is None


def test_a_changed_run_is_refused_by_name(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(UserError, match=r"another learning_rate \(0.0002 then, 0.1 now\)"):
        checkpoints.newest_intact(tmp_path, RUN | {"learning_rate": "0.1"})


def test_newest_goes_by_number_and_old_ones_go(tmp_path):
    for step in (5, 10, 100):
        save(tmp_path, step)
    checkpoints.rotate(tmp_path, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-100"}
    assert checkpoints.newest_intact(tmp_path, RUN).folder.name == "checkpoint-100"


def test_the_best_checkpoint_outlives_the_rotation(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step)
    checkpoints.rotate(tmp_path, keep=1, best_step=10)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-20"}


def test_a_run_is_unfinished_until_it_says_so(tmp_path):
    assert checkpoints.unfinished_step(tmp_path) is None
    save(tmp_path, 7)
    assert checkpoints.unfinished_step(tmp_path) == 7
    checkpoints.mark_finished(tmp_path, 7)
    assert checkpoints.unfinished_step(tmp_path) is None
    assert json.loads((tmp_path / checkpoints.FINISHED).read_text()) == {"step": 7}
    checkpoints.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_google_drive_keeps_of_an_old_checkpoint_is_empty(tmp_path, monkeypatch):
    """Its mounted folders move into a bin what is deleted, and the bin takes up the space."""
    drives_bin = tmp_path / "bin"
    monkeypatch.setattr(checkpoints.colab, "DRIVE", tmp_path)
    old = save(tmp_path, 10)
    save(tmp_path, 20)
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda folder: folder.rename(drives_bin))
    checkpoints.rotate(tmp_path, keep=1)
    assert not old.exists()
    kept = list(drives_bin.iterdir())
    assert kept
    assert sum(path.stat().st_size for path in kept) == 0


def test_off_drive_a_deleted_checkpoint_stays_readable_for_whoever_has_it(tmp_path):
    """A file cut short under a program that has mapped it, as transformers maps weights, ends that program."""
    folder, copy = save(tmp_path, 1), tmp_path / "copy"
    os.link(folder / "adapter.bin", copy)
    checkpoints.clear(tmp_path)
    assert (folder.exists(), copy.read_text()) == (False, "weights")


def test_a_link_in_a_checkpoint_leaves_its_target_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.colab, "DRIVE", tmp_path)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (save(tmp_path, 1) / "link").symlink_to(mine)
    checkpoints.clear(tmp_path)
    assert mine.read_text() == "mine"


def test_another_process_may_drop_a_checkpoint_that_has_just_been_verified(tmp_path, monkeypatch):
    """Where a distributed run has both --resume and --restart, the first process does."""

    def last_file_read(path: Path) -> str:
        digest = sha256(path)
        if path.name == "optimizer.pt":
            shutil.rmtree(path.parent)
        return digest

    save(tmp_path, 10)
    monkeypatch.setattr(checkpoints, "sha256", last_file_read)
    with pytest.raises(UserError, match="can't go on with another learning_rate"):
        checkpoints.newest_intact(tmp_path, RUN | {"learning_rate": "0.1"})


def test_to_resume_and_restart_drops_only_what_cannot_go_on(tmp_path):
    """A notebook in which RESTART was left on must not drop what the lost session had trained."""
    run = TrainingSettings(output_dir=tmp_path, resume=True, restart=True)
    folder = save(checkpoints.folder_of(run), 10)
    assert checkpoints.starting_point(run, RUN).folder == folder
    assert checkpoints.starting_point(run, RUN | {"learning_rate": "0.1"}) is None
    assert not folder.exists()
