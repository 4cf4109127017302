"""What a disk can do to a run: be full, read-only or forbidden, or be in use by another run."""

from __future__ import annotations

import atexit
import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from utils import console
from utils.console import UserError

LOCK = ".lock"

_FAULTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "there is no space left"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "it can't be written"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way"),
    errno.ENOENT: "a folder was deleted meanwhile",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN), "the disk fails"),
}


@contextlib.contextmanager
def disk_faults(folder: Path, what: str) -> Iterator[None]:
    """Raises UserError in place of whatever Python, torch, safetensors and tokenizers raise when `what` can't be
    written below `folder`; any other error passes."""
    try:
        yield
    except Exception as error:  # tokenizers raises nothing more specific
        fault = None if isinstance(error, UserError) else _fault(error)
        if fault is None:
            raise
        raise UserError(
            f"can't write {what} to {folder}: {fault}; earlier checkpoints are as they were: mend that, then add"
            " --resume"
        ) from error


def claim(root: Path) -> None:
    """Keeps every other process from training into `root`, until `release` or this process's end.

    Raises UserError when another one does, or when `root` can't be written. A file system without locks is left as it
    is: better a run without this guard than none.
    """
    with disk_faults(root, "checkpoints"):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock = _lock(root)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another run is training into {root.parent}; wait for its end, or choose another --output-dir"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL):
                raise
            console.warn(f"{root} can't be locked ({error.strerror}): start no second run there")
            return
    atexit.register(lock.release, force=True)  # a reference, too: a lock that nobody holds on to opens


def release(root: Path) -> None:
    lock = _lock(root)
    lock.release(force=True)
    atexit.unregister(lock.release)


def _lock(root: Path) -> FileLock:
    """The same object for the same folder, so that one process may claim it twice, as a notebook does."""
    return FileLock(root.resolve() / LOCK, is_singleton=True, thread_local=False, fallback_to_soft=False)


def _fault(error: Exception) -> str | None:
    """What is wrong with the disk, None for an error of another kind.

    safetensors and tokenizers tell the number in their text, torch's archive writer nothing but its own source file.
    """
    number = error.errno if isinstance(error, OSError) else None
    told = re.search(r"os error (\d+)", str(error))
    if told:
        number = int(told[1])
    if number is not None:
        return _FAULTS.get(number)
    if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
        return "there is no space left, or it can't be written"
    return None
