"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils import output_folders
from utils.console import UserError

MANIFEST = "export.json"


def check_destination(destination: Path, overwrite: bool) -> None:
    """Raises UserError when something is in the way that may not be replaced, only an earlier export may, or when the
    path is no UTF-8."""
    output_folders.refuse_other_encodings(destination)
    if not destination.exists():
        return
    if not overwrite:
        raise UserError(f"{destination} is there already; --overwrite replaces it, --output-dir names another place")
    if not (destination / MANIFEST).is_file():
        raise UserError(f"{destination} is no earlier export, so it is not replaced; name another with --output-dir")


@contextlib.contextmanager
def staged(destination: Path, needed_bytes: int) -> Iterator[Path]:
    """A folder to write into, beside `destination`; it takes that name when the block ends well, and goes if not.

    Raises UserError when nothing can be written there, the disk has less than `needed_bytes` free or gets full on the
    way, or another export is writing the same folder.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError)  # a file where a folder should be
        raise _not_writable(destination, errno.ENOTDIR if in_the_way else error.errno) from error
    with output_folders.claimed(destination), _disk_faults(destination):
        staging = destination.with_name(f".{destination.name}.part")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            _check_space(destination, needed_bytes)
            yield staging
            for path in staging.rglob("*"):
                if path.is_file():
                    with path.open("rb+") as file:
                        os.fsync(file.fileno())
            _put_in_place(staging, destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _check_space(destination: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(destination.parent).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"the export needs {needed_bytes / 1e9:.1f} GB beside {destination}, and {free_bytes / 1e9:.1f} GB are"
            " free; make room, or name a folder on another disk with --output-dir"
        )


def _put_in_place(staging: Path, destination: Path) -> None:
    """An earlier export goes when the new one stands in its place; where two folders can't trade places in one step, it
    is renamed first, to `.NAME.former`."""
    former = destination.with_name(f".{destination.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if destination.exists() and output_folders.exchange(staging, destination):
        return  # what stands at `staging` now is the earlier one
    if destination.exists():
        destination.replace(former)
    staging.replace(destination)
    shutil.rmtree(former, ignore_errors=True)


@contextlib.contextmanager
def _disk_faults(destination: Path) -> Iterator[None]:
    """safetensors and tokenizers tell a fault of the disk in words of their own, with its number among them; numpy,
    which writes GGUF's tensors, tells a full one without."""
    try:
        yield
    except OSError as error:
        if error.filename and destination.name in str(error.filename):
            raise _not_writable(destination, error.errno) from error
        if re.fullmatch(r"\d+ requested and \d+ written", str(error)):
            raise _not_writable(destination, errno.ENOSPC) from error
        raise
    except Exception as error:  # tokenizers raises nothing more specific
        number = re.search(r"os error (\d+)|code: (\d+)", str(error))
        if number is None or isinstance(error, UserError):
            raise
        raise _not_writable(destination, int(number[1] or number[2])) from error


def _not_writable(destination: Path, number: int) -> UserError:
    return UserError(f"can't write {destination}: {os.strerror(number)}; name another with --output-dir")
