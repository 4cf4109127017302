"""Checkpoints that are whole or absent, verified before use, and tied to the run that made them.

A checkpoint is staged in a hidden folder, synced, and renamed to `checkpoint-STEP` with a manifest of every file's
sha256 and of the run's fingerprints, so that a run killed at any moment leaves only checkpoints that can be trusted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from utils import colab, console, records
from utils.base_models import sha256
from utils.console import UserError
from utils.training.disk import claim, disk_faults
from utils.training.settings import TrainingSettings

MANIFEST = "manifest.json"
STAGING = ".staging"
FINISHED = "finished.json"


class Manifest(msgspec.Struct, frozen=True):
    """What `manifest.json` of a checkpoint says; `sha256` is by name of file."""

    step: int
    micro_batch_tokens: int
    fingerprints: dict[str, str]
    sha256: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified. Another packing would round otherwise, so a resumed run keeps its
    `micro_batch_tokens`."""

    folder: Path
    micro_batch_tokens: int


@contextlib.contextmanager
def staged(root: Path, step: int, fingerprints: Mapping[str, str], micro_batch_tokens: int = 0) -> Iterator[Path]:
    """Yields a folder whose `checkpoint-STEP` becomes a checkpoint of `root` when the block ends well, and vanishes
    when it does not.

    Raises UserError when the disk is full or can't be written.
    """
    staging = root / STAGING
    try:
        with disk_faults(root, "a checkpoint"):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            yield staging
            folder = staging / f"checkpoint-{step}"
            files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
            manifest = Manifest(step, micro_batch_tokens, dict(fingerprints), files)
            (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
            _sync(folder)
            target = root / folder.name
            shutil.rmtree(target, ignore_errors=True)
            folder.replace(target)
            _sync_folder(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def rotate(root: Path, keep: int, best_step: int | None = None) -> None:
    """Deletes all but the `keep` newest checkpoints and the best one."""
    for folder in _newest_first(root)[keep:]:
        if _step(folder) != best_step:
            _delete(folder)


def starting_point(run: TrainingSettings, fingerprints: Mapping[str, str]) -> Checkpoint | None:
    """The checkpoint to go on from, None for a start from the beginning (an earlier run's checkpoints are cleared).
    With both `resume` and `restart` what can't be resumed is dropped.

    From here on no other process can train into the folder.

    Raises UserError when one does already, for an unfinished run that is neither to be resumed nor dropped, and as
    `newest_intact` does.
    """
    root = folder_of(run)
    if not run.dry_run and console.is_main_process():
        claim(root)
    if run.resume:
        try:
            start = newest_intact(root, fingerprints)
        except UserError:
            if not run.restart:
                raise
            start = None
        if start or not run.restart:
            return start
    unfinished = unfinished_step(root)
    if unfinished is not None and not run.restart:
        raise UserError(
            f"{root} holds an unfinished run, saved at step {unfinished}: add --resume to go on with it, or --restart"
            " to drop it"
        )
    if not run.dry_run and console.is_main_process():
        clear(root)
    return None


def folder_of(run: TrainingSettings) -> Path:
    return run.output_dir / "checkpoints"


def newest_intact(root: Path, fingerprints: Mapping[str, str]) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None; each one that is skipped is named with the reason.

    Raises UserError when that checkpoint comes from other data, settings or base than `fingerprints` say.
    """
    for folder in _newest_first(root):
        manifest = _verified(folder)
        if isinstance(manifest, str):
            console.warn(f"{folder} is skipped: {manifest}")
            continue
        known = manifest.fingerprints
        changed = [name for name, value in fingerprints.items() if known.get(name) != value]
        if changed:
            raise UserError(
                f"{folder} can't go on with {_difference(changed, known, fingerprints)};"
                " put that back, name another --output-dir, or start over with --restart"
            )
        return Checkpoint(folder, manifest.micro_batch_tokens)
    return None


def unfinished_step(root: Path) -> int | None:
    """The step of the newest checkpoint of a run that never finished, or None."""
    folders = _newest_first(root)
    return _step(folders[0]) if folders and not (root / FINISHED).exists() else None


def mark_finished(root: Path, step: int) -> None:
    """The run's result lies in its place: from here on its checkpoints, where it left any, may be dropped."""
    if root.is_dir():
        records.write_atomically(root / FINISHED, msgspec.json.encode({"step": step}))


def clear(root: Path) -> None:
    """Deletes an earlier run's checkpoints."""
    for folder in _newest_first(root):
        _delete(folder)
    (root / FINISHED).unlink(missing_ok=True)


def _difference(changed: list[str], known: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """What has changed, by name; of a sha256 the first digits are enough to look it up."""
    return "; ".join(f"another {name} ({_short(known.get(name))} then, {_short(wanted[name])} now)" for name in changed)


def _short(value: str | None) -> str:
    return value[:12] if value and len(value) == 64 else str(value)


def _verified(folder: Path) -> Manifest | str:
    """What the manifest of an intact checkpoint says, or what is wrong. It is read once: in a distributed run the first
    process may drop the checkpoint at any moment."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        expected = manifest.sha256
        present = {path.name for path in folder.iterdir()} - {MANIFEST}
        odd = min(present ^ expected.keys(), default=None)
        if odd:
            return f"{odd} is missing" if odd in expected else f"{odd} is none of its files"
        for name, digest in expected.items():
            if sha256(folder / name) != digest:
                return f"{name} has changed since it was saved"
        return manifest if expected else "it is empty"
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"its files can't be read ({type(error).__name__})"


def _delete(folder: Path) -> None:
    """What a mounted Google Drive deletes lies in its bin and fills it up for thirty days, so its files are emptied
    first. Nowhere else: whoever has a file open or linked may still read what was deleted."""
    if folder.absolute().is_relative_to(colab.DRIVE):
        for path in folder.iterdir():
            if not path.is_symlink():  # whose target is somebody else's
                with contextlib.suppress(OSError):
                    os.truncate(path, 0)
    shutil.rmtree(folder)


def _newest_first(root: Path) -> list[Path]:
    folders = [path for path in root.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]
    return sorted(folders, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name[11:])


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows can't open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
