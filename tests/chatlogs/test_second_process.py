"""An iterator that works in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.chatlogs import second_process
from utils.console import UserError

pytestmark = pytest.mark.skipif(not second_process.is_at_hand(), reason="needs Linux and two cores")


def numbers(count, then=None):
    for number in range(count):
        yield number, os.getpid()
    if then is not None:
        raise then


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, within_s=5):
    until = time.monotonic() + within_s
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


def test_the_values_come_in_order_out_of_another_process():
    with second_process.ahead(numbers(50_000)) as values:
        found = list(values)
    assert [number for number, _ in found] == list(range(50_000))
    (pid,) = {pid for _, pid in found}
    assert pid != os.getpid() and not is_alive(pid)


def test_an_exception_comes_behind_the_values_and_says_where_it_arose():
    with second_process.ahead(numbers(3, then=UserError("no export"))) as values:
        assert [next(values)[0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(UserError, match="no export") as caught:
            next(values)
    assert "in numbers" in caught.value.__notes__[0]


def test_the_process_ends_with_the_block():
    with second_process.ahead(numbers(10**9)) as values:
        _, pid = next(values)
        assert is_alive(pid)
    assert not is_alive(pid)
    with pytest.raises(ZeroDivisionError), second_process.ahead(numbers(10**9)) as values:
        _, pid = next(values)
        raise ZeroDivisionError
    assert not is_alive(pid)


def test_it_works_on_while_nobody_reads_but_not_without_end(monkeypatch):
    monkeypatch.setattr(second_process, "AHEAD_BYTES", 4 << 20)
    made = multiprocessing.get_context("fork").Value("i")

    def values():
        for made.value in range(100):
            yield bytes(1 << 20)

    with second_process.ahead(values()) as found:
        next(found)
        time.sleep(0.5)
        assert 4 <= made.value <= 8
        assert len(list(found)) == 99


def test_a_process_that_is_killed_is_one_line():
    with second_process.ahead(numbers(10**9)) as values:
        _, pid = next(values)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"ended from outside \(exit code -9\)"):
            list(values)


READER = """
import itertools, os, signal
from utils.chatlogs import second_process
from utils import console
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
def main():
    with second_process.ahead((number, os.getpid()) for number in itertools.count()) as values:
        for _, pid in values:
            print(pid, flush=True)
console.run(main)
"""


@pytest.fixture
def reader():
    """A process that reads for ever from one of its own; both are gone behind the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER],
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_it_where_its_reader_dies(reader, end):
    pid = int(reader.stdout.readline())
    reader.send_signal(end)
    _, errors = reader.communicate(timeout=60)
    assert ends(pid)
    assert errors == (b"stopped by Ctrl-C\n" if end == signal.SIGINT else b"")
    assert reader.returncode == (130 if end == signal.SIGINT else -end)


def test_ctrl_c_reaches_both_and_is_said_once(reader):
    pid = int(reader.stdout.readline())
    os.killpg(reader.pid, signal.SIGINT)
    _, errors = reader.communicate(timeout=60)
    assert errors == b"stopped by Ctrl-C\n" and reader.returncode == 130 and ends(pid)
