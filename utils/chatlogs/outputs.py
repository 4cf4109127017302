"""Puts the files of a run in place all at once: whenever the run dies, the old set is there or the new, never a mix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from utils import output_folders, records
from utils.chatlogs.settings import PrepareSettings
from utils.console import UserError

if TYPE_CHECKING:
    from utils.chatlogs.quality.split import Split

PREPARED = ("train.jsonl", "validation.jsonl", "test.jsonl", "report.json", "report.html")


def check_folder(settings: PrepareSettings) -> None:
    """Raises UserError, before anything is read, where OUTPUT_DIR can't take the prepared files, or where the next run
    would read them as ready-made examples."""
    folder = Path(os.path.realpath(settings.output_dir))
    _refuse_file(folder)
    output_folders.refuse_working_folder(settings.output_dir)
    for source in () if settings.forget else settings.source:
        if folder.is_relative_to(os.path.realpath(source)):
            raise UserError(
                f"{settings.output_dir} lies in the source {source}, so its records would be read as examples the next"
                " time; name a folder outside with --output-dir"
            )


def store_path(settings: PrepareSettings) -> Path:
    """STORE, else OUTPUT_DIR.duckdb: data/processed.duckdb beside data/processed."""
    return settings.store or settings.output_dir.with_name(settings.output_dir.name + ".duckdb")


def encode(split: Split) -> dict[str, bytes]:
    """One JSONL file a set."""
    return {
        f"{name}.jsonl": b"".join(records.encode(reply.record) + b"\n" for reply in replies)
        for name, replies in split.sets.items()
    }


def remove(folder: Path) -> None:
    """Removes this stage's files."""
    for name in PREPARED:
        (folder / name).unlink(missing_ok=True)


def recover(folder: Path) -> None:
    """Clears up after a run that died: puts back a folder that it had renamed, removes the one that it was making.

    Raises UserError where the folder can't be written.
    """
    folder = folder.resolve()
    try:
        _recover(folder, PREPARED)
    except OSError as error:
        raise _not_writable(folder, error) from error


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replaces `files` in `folder`, all of them or none; other files of the folder stay.

    The new files are written and synced in a folder beside it; then the two folders trade places in one step. Where
    the system can't exchange two folders, the old one is renamed first: a run that dies between the renames leaves it
    there as `.NAME.previous`, and the next run puts it back. A mounted folder, which can't be renamed, gets its files
    one by one.

    Raises UserError where the folder can't be written.
    """
    folder = folder.resolve()
    _refuse_file(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with output_folders.claimed(folder, wait_s=60):
            _replace(folder, files)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _refuse_file(folder: Path) -> None:
    try:
        occupied = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name that is too long
        raise _not_writable(folder, error) from error
    if occupied or folder.is_symlink():
        kind = "a link that leads nowhere" if folder.is_symlink() else "a file, not a folder"
        raise UserError(f"can't write to {folder}: it is {kind}; set OUTPUT_DIR, or pass --output-dir")


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"can't write to {folder}: {error.strerror}; set OUTPUT_DIR, or pass --output-dir")


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.is_mount():
        for name, data in files.items():
            records.write_atomically(folder / name, data)
        return
    _recover(folder, files)
    staged, previous = _beside(folder)
    try:
        staged.mkdir(parents=True)
        for name, data in files.items():
            with (staged / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if not folder.exists():
        staged.rename(folder)
    elif output_folders.exchange(staged, folder):
        _empty(staged, folder, files)
    else:
        folder.rename(previous)
        staged.rename(folder)
        _empty(previous, folder, files)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new files are put together, and where the old ones stand until these are in place."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.previous")


def _recover(folder: Path, replaced: Container[str]) -> None:
    staged, previous = _beside(folder)
    if previous.exists() and not folder.exists():
        previous.rename(folder)
    for leftover in (staged, previous):
        _empty(leftover, folder, replaced)


def _empty(old: Path, folder: Path, replaced: Container[str]) -> None:
    """Removes an old folder after moving what is not this stage's into the new one."""
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name not in replaced and folder.exists() and not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(old)
