"""A training run in a process of its own, without the seconds that importing everything anew would take."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from utils import console

NEW_MOUNT_NAMESPACE = 0x00020000


def start(work: Callable[[], object], log: Path) -> int:
    """Runs `work` in a copy of this process, as `console.run` runs a script's main, and returns the copy's id. What it
    prints goes to `log`."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        console.out.file, console.err.file = sys.stdout, sys.stderr
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
        console.run(work)
        status = 0
    except SystemExit as ending:
        status = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)  # whatever happens: this copy must not go on as a second pytest


def run(work: Callable[[], object], log: Path) -> int:
    """`start`, waited for: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(start(work, log), 0)[1])


def mount_disk(folder: Path, kib: int) -> None:
    """Puts a disk of its own under `folder`, seen by this process alone.

    Raises OSError or CalledProcessError where that takes rights that this process lacks.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNT_NAMESPACE):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], check=True, capture_output=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    return sys.platform == "linux" and run(lambda: mount_disk(folder / "try", 64), folder / "log") == 0
