"""The files of a run appear together, and a run that dies leaves the old ones."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from utils.chatlogs import outputs
from utils.console import UserError

OLD, NEW = {"train.jsonl": b"old", "report.json": b"old"}, {"train.jsonl": b"new", "report.json": b"new"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def folder(request, tmp_path, monkeypatch):
    if not request.param:
        monkeypatch.setattr(outputs.output_folders, "exchange", lambda one, other: False)
    return tmp_path / "data" / "processed"


def test_files_are_replaced_and_others_stay(folder):
    outputs.publish(folder, OLD)
    (folder / "notes.txt").write_bytes(b"mine")
    (folder / "sub").mkdir()
    outputs.publish(folder, NEW)
    (folder / "sub").rmdir()
    assert contents(folder) == {**NEW, "notes.txt": b"mine"}
    assert [path.name for path in folder.parent.iterdir()] == ["processed"]


def test_two_runs_put_their_files_in_place_one_after_the_other(folder, monkeypatch):
    monkeypatch.setattr(outputs, "_replace", slowly := Slowly(outputs._replace))
    with ThreadPoolExecutor() as runs:
        list(runs.map(lambda files: outputs.publish(folder, files), [OLD, NEW, OLD, NEW]))
    assert slowly.at_once == 1 and contents(folder) in (OLD, NEW)
    assert [path.name for path in folder.parent.iterdir()] == ["processed"]


class Slowly:
    """Counts how many calls there are at once, at most."""

    def __init__(self, function):
        self.function, self.now, self.at_once = function, 0, 0

    def __call__(self, *arguments):
        self.now += 1
        self.at_once = max(self.at_once, self.now)
        time.sleep(0.05)
        self.function(*arguments)
        self.now -= 1


@pytest.mark.parametrize("dies_in", ["open", "rename", "rmtree"])
def test_a_run_that_dies_leaves_the_old_set_or_the_new(folder, monkeypatch, dies_in):
    outputs.publish(folder, OLD)
    (folder / "notes.txt").write_bytes(b"mine")

    def die(*args, **keys):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            *{
                "open": (outputs.os, "fsync", die),
                "rename": (outputs.output_folders, "exchange", die),
                "rmtree": (outputs.shutil, "rmtree", die),
            }[dies_in]
        )
        with pytest.raises(KeyboardInterrupt):
            outputs.publish(folder, NEW)
    kept = contents(folder)
    assert {name: kept[name] for name in OLD} in (OLD, NEW)
    outputs.publish(folder, NEW)
    assert contents(folder) == {**NEW, "notes.txt": b"mine"}
    assert [path.name for path in folder.parent.iterdir()] == ["processed"]


@pytest.mark.parametrize("fails", ["fsync", "open"])
def test_a_disk_that_is_full_leaves_the_old_set_and_nothing_beside_it(folder, monkeypatch, fails):
    outputs.publish(folder, OLD)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (outputs.os, "fsync", full), "open": (outputs.Path, "open", full)}[fails])
        with pytest.raises(UserError, match=r"can't write to .*: No space left on device"):
            outputs.publish(folder, NEW)
    assert contents(folder) == OLD and [path.name for path in folder.parent.iterdir()] == ["processed"]


def test_a_folder_left_under_its_other_name_comes_back(folder):
    outputs.publish(folder, OLD)
    (folder / "notes.txt").write_bytes(b"mine")
    folder.rename(folder.with_name(".processed.previous"))
    outputs.publish(folder, NEW)
    assert contents(folder) == {**NEW, "notes.txt": b"mine"}


ENDLESS = """
import sys; from pathlib import Path; from utils.chatlogs import outputs
from utils.console import UserError
while True:
    for letter in (b"a", b"b"):
        outputs.publish(Path(sys.argv[1]), {f"{n}.jsonl": letter * 100_000 for n in range(4)})
"""


def test_kill_at_any_moment_leaves_one_whole_set(tmp_path):
    folder = tmp_path / "processed"
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(folder)], env={**os.environ, "PYTHONPATH": "."})
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.35 + 0.017 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if folder.exists():
            assert len(set(contents(folder).values())) == 1
            assert len(contents(folder)) == 4
