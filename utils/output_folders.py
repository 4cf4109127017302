"""Where results must not land: among other things, or in the middle of another run's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from utils.console import UserError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def refuse_working_folder(folder: Path) -> None:
    """Raises UserError for the folder that the process is in, such as the project's own, and for those above it: their
    files would be replaced and moved about."""
    if Path.cwd().is_relative_to(os.path.realpath(folder)):
        raise UserError(
            f"{folder} is the folder that you are in, or one above it, and holds other things than results; name one of"
            " their own with --output-dir"
        )


def refuse_other_encodings(folder: Path) -> None:
    """Raises UserError for a path that is no UTF-8: safetensors writes to no such place, and says so late."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(folder).decode("utf-8", "replace")
        raise UserError(f"the path {shown} is not in UTF-8; name another with --output-dir") from None


@contextlib.contextmanager
def claimed(path: Path, wait_s: float = 0) -> Iterator[None]:
    """Keeps other processes from making `path` at the same time, by a hidden file beside it that goes with the block.

    Raises UserError when another one still does after `wait_s` seconds. A folder that can't be written, or has no
    locks, is left as it is: the writing itself will tell.
    """
    from filelock import FileLock, Timeout  # not before the reading has begun

    lock = FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise UserError(f"another run is writing {path}; wait until it is done, or name another output") from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows keeps an open file
                Path(lock.lock_file).unlink()
            lock.release()


def let_umask_decide(folder: Path, written_by_python: str) -> None:
    """Gives the weights in the folder the mode of another file there: safetensors makes its files for their owner
    alone, whatever the umask says. A file system without modes stays as it is."""
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            shutil.copymode(folder / written_by_python, path)


def exchange(one: Path, other: Path) -> bool:
    """Lets two paths trade places in one step, by Linux's renameat2(RENAME_EXCHANGE); False where the system or the
    file system has none."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
