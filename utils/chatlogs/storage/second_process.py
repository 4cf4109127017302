"""An iterator that works in a process of its own, so that a second core is busy, too.

The process is forked: it has the iterator without importing anything again. What it makes comes back over a pipe, which
holds so little that the process never gets far ahead.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from utils.console import UserError

PIPE_BYTES = 1 << 20  # the most that Linux gives everybody
PATIENCE_S = 5  # a process that nobody listens to any more ends at its next value

Value = TypeVar("Value")


def is_at_hand() -> bool:
    """Whether there is a second core, and a system that forks without harm: macOS and Windows don't."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


@contextmanager
def ahead(values: Iterable[Value]) -> Iterator[Iterator[Value]]:
    """The values, and the exception that ends them, out of a process that ends with the block at the latest.

    Call it while no thread runs. Raises UserError where the process is killed.
    """
    import fcntl  # Windows has none

    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    with suppress(OSError):  # a smaller pipe costs more turns, nothing else
        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    process = fork.Process(target=_send, args=(values, sender, receiver), daemon=True)
    process.start()
    sender.close()
    try:
        yield _receive(receiver, process)
    finally:
        receiver.close()
        process.join(PATIENCE_S)
        process.kill()


def _send(values: Iterable[object], sender: Connection, receiver: Connection) -> None:
    receiver.close()  # or the pipe would outlive its reader
    try:
        try:
            for value in values:
                sender.send((value, None))
            sender.send((None, StopIteration()))
        except Exception as error:
            error.add_note(traceback.format_exc())
            sender.send((None, error))
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # whoever reads is gone, or goes by the same Ctrl-C


def _receive(receiver: Connection, process: BaseProcess) -> Iterator[object]:
    while True:
        try:
            value, error = receiver.recv()
        except EOFError:
            process.join()
            raise UserError(
                f"the process that reads the exports was ended from outside (exit code {process.exitcode}); where "
                "memory ran out, close other programs, and run it again"
            ) from None
        if isinstance(error, StopIteration):
            return
        if error is not None:
            raise error
        yield value
