"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils.console import UserError

MANIFEST = "export.json"


def check_destination(destination: Path, overwrite: bool) -> None:
    """Raises UserError when something is in the way that may not be replaced: only an earlier export may."""
    if not destination.exists():
        return
    if not overwrite:
        raise UserError(f"{destination} is there already; --overwrite replaces it, --output-dir names another place")
    if not (destination / MANIFEST).is_file():
        raise UserError(f"{destination} is no earlier export, so it is not replaced; name another with --output-dir")


@contextlib.contextmanager
def staged(destination: Path, needed_bytes: int) -> Iterator[Path]:
    """A folder to write into, beside `destination`; it takes that name when the block ends well, and goes if not.

    Raises UserError when nothing can be written there, or the disk has less than `needed_bytes` free.
    """
    staging = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"can't write {destination}: {error.strerror}; name another with --output-dir") from error
    free_bytes = shutil.disk_usage(destination.parent).free
    if free_bytes < needed_bytes:
        staging.rmdir()
        raise UserError(
            f"the export needs {needed_bytes / 1e9:.1f} GB beside {destination}, and {free_bytes / 1e9:.1f} GB are"
            " free; make room, or name a folder on another disk with --output-dir"
        )
    try:
        yield staging
        for path in staging.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        former = destination.with_name(f".{destination.name}.former")
        shutil.rmtree(former, ignore_errors=True)
        if destination.exists():
            destination.replace(former)
        staging.replace(destination)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
