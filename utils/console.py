"""What a person sees in the terminal: one-line errors, progress, tables."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Chat text and names may hold what would steer a terminal or turn its text around.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_FLAG = re.compile(r"(?<![^\s(])--([a-z]+(?:-[a-z]+)*)")

_FAULTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or name a place on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "ask for the right to it, or name another place"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), "name it by another path"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "see whether the disk is in order"),
}


class _Lines(Console):
    """A notebook gets plain lines: rich would make each a page of its own, and Jupyter claims to be a terminal in
    colour."""

    def __init__(self, stream: TextIO | None, **options: Any):
        terminal = stream is not None and stream.isatty()  # a process may be started without streams
        super().__init__(highlight=False, emoji=False, force_jupyter=False, force_terminal=terminal, **options)

    def on_broken_pipe(self) -> None:
        """Nobody reads any more, as after `| head` or a `tee` that Ctrl-C stopped: the work goes on in silence, where
        rich would end it."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Lines(sys.stdout, soft_wrap=True)
err = _Lines(sys.stderr, soft_wrap=True, stderr=True)


class UserError(Exception):
    """A mistake that the user can mend: one line that says what, where and how to fix it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook, where there is no `run` around a cell and flags are constants."""
        return [_FLAG.sub(lambda flag: flag[1].upper().replace("-", "_"), _error_line(self))]


def run(main: Callable[[], object]) -> None:
    """Runs a script's `main`: a UserError ends in one line on stderr and exit code 2, as does what a disk refuses; a
    bug keeps its traceback."""
    _show_any_text()
    try:
        _refuse_nowhere()
        main()
    except UserError as error:
        err.print(_error_line(error), markup=False)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        where = f" for {str(error.filename)[:300]}" if error.filename else ""
        mistake = UserError(f"the disk says {os.strerror(error.errno).lower()}{where}; {_FAULTS[error.errno]}")
        err.print(_error_line(mistake), markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped by Ctrl-C", markup=False)
        sys.exit(130)


def leave() -> None:
    """Ends the process at once. After long work Python's own end, which takes every object apart, costs a tenth of a
    second and does nothing else; where a stream can't take its last words, that end says so."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return
    os._exit(0)


def _refuse_nowhere() -> None:
    """In a folder that has been deleted, libraries fail in ways of their own."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the folder that you are in is gone; change to another one") from None


def run_cells() -> None:
    """From here on does for a script of cells, which has no `main`, what `run` does for the others."""
    _show_any_text()
    sys.excepthook = _end_script


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends the process in silence where plain prints, such as those of `--help`, meet a reader that has gone, as
    `| head -1` does."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # what Python flushes at its end alone fails with a message of Python's
    except BrokenPipeError:
        out.on_broken_pipe()
        sys.exit(0)


def _show_any_text() -> None:
    """A stream that has no emoji, such as a file on Windows, gets their numbers. One that is closed leads nowhere:
    libraries expect a stream, and a file that is opened later must not take its number."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _end_script(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    def again() -> None:
        raise error

    if isinstance(error, UserError | KeyboardInterrupt) or (isinstance(error, OSError) and error.errno in _FAULTS):
        run(again)
    sys.__excepthook__(kind, error, traceback)


def _error_line(error: UserError) -> str:
    """One line; a name out of somebody else's file can't steer the terminal."""
    printable = "".join(each if each.isprintable() else " " for each in str(error))
    return f"error: {' '.join(printable.split())}"


def python() -> str:
    """What to type for the Python that runs: `python` where the shell means this one by it, else its path."""
    own = Path(sys.executable)
    found = Path(shutil.which("python") or "")
    if found.parent == own.parent and found.resolve() == own.resolve():  # /usr/bin may hold several
        return "python"
    return typed(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def typed(word: object) -> str:
    """A word of a command as one types it: cmd.exe knows no single quotes."""
    if os.name == "nt":
        return f'"{word}"' if " " in str(word) else str(word)
    return shlex.quote(str(word))


def is_main_process() -> bool:
    """False in all but the first process of a distributed run, so that one process speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "", *, above: Progress | None = None) -> None:
    """Prints one line as it is: square brackets and emoji codes in chat text are no markup. While a bar is shown, the
    line must go `above` it, through the bar's own console, or it lands in the middle of the bar."""
    if is_main_process():
        target = out if above is None or above.disable else above.console
        target.print(harmless(text), markup=False, emoji=False)


def heading(text: str) -> None:
    if is_main_process():
        out.print(f"\n{harmless(text)}", style="bold", markup=False)


def warn(text: str) -> None:
    if is_main_process():
        err.print(f"warning: {harmless(text)}", style="yellow", markup=False)


def harmless(text: str) -> str:
    """The text with a dot for each character that would steer a terminal."""
    return _STEERING.sub("·", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> None:
    """Prints `rows` under `columns`; the columns whose index is in `numeric` are right-aligned."""
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index in numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(harmless(str(cell))) for cell in row))
    _Lines(sys.stdout).print(grid)


def escape(text: str) -> str:
    """Chat text that is safe inside rich markup."""
    return text.replace("[", r"\[")


def progress(unit: str = "") -> Progress:
    """A progress bar on stderr that vanishes when done and stays silent where there is no terminal."""
    shown = err.is_terminal and is_main_process()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err if shown else Console(quiet=True),  # Colab's rich ends a disabled bar with an empty line
        transient=True,
        disable=not shown,
    )
