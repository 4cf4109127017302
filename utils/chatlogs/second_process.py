"""An iterator that works in a process of its own, so that a second core is busy, too.

The process is forked: it has the iterator without importing anything again. What it makes comes back over a pipe. It
works on while nobody reads, until AHEAD_BYTES wait.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import BinaryIO, TypeVar

from utils.console import UserError

PIPE_BYTES = 1 << 20  # the most that Linux gives everybody
AHEAD_BYTES = 16 << 20  # more than is made while the reader imports what it needs
PATIENCE_S = 5  # a process that nobody listens to any more ends at its next value

Value = TypeVar("Value")


def is_at_hand() -> bool:
    """Whether there is a second core, and a system that forks without harm: macOS and Windows don't."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


@contextmanager
def ahead(values: Iterable[Value]) -> Iterator[Iterator[Value]]:
    """The values, and the exception that ends them, out of a process that ends with the block at the latest.

    Threads stay behind: what makes the values may wait for none. Raises UserError where the process is killed.
    """
    import fcntl  # Windows has none

    receiver, sender = os.pipe()
    with suppress(OSError):  # a smaller pipe costs more turns, nothing else
        fcntl.fcntl(sender, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(values, sender, receiver), daemon=True)
    process.start()
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb", PIPE_BYTES) as stream:
            yield _receive(stream, process)
    finally:
        process.join(PATIENCE_S)
        process.kill()


def _send(values: Iterable[object], sender: int, receiver: int) -> None:
    os.close(receiver)  # or the pipe would outlive its reader
    os.set_blocking(sender, False)
    waiting: deque[memoryview] = deque()

    def send(value: object, end: BaseException | None = None, ahead_bytes: int = AHEAD_BYTES) -> None:
        waiting.append(memoryview(pickle.dumps((value, end), pickle.HIGHEST_PROTOCOL)))
        _write(waiting, sender, ahead_bytes)

    try:
        try:
            for value in values:
                send(value)
            send(None, StopIteration(), ahead_bytes=0)
        except Exception as error:
            error.add_note(traceback.format_exc())
            send(None, error, ahead_bytes=0)
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # whoever reads is gone, or goes by the same Ctrl-C


def _write(waiting: deque[memoryview], sender: int, ahead_bytes: int) -> None:
    """Writes as much as the pipe takes, and waits until no more than so many bytes are left over."""
    left = sum(map(len, waiting))
    while waiting:
        try:
            written = os.write(sender, waiting[0])
        except BlockingIOError:
            if left <= ahead_bytes:
                return
            select.select([], [sender], [])
            continue
        left -= written
        waiting[0] = waiting[0][written:]
        if not waiting[0]:
            waiting.popleft()


def _receive(stream: BinaryIO, process: BaseProcess) -> Iterator[object]:
    while True:
        try:
            value, end = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            process.join()
            raise UserError(
                f"the second process was ended from outside (exit code {process.exitcode}); where "
                "memory ran out, close other programs, and run it again"
            ) from None
        if isinstance(end, StopIteration):
            return
        if end is not None:
            raise end
        yield value
