"""What a person sees in the terminal: one-line errors, progress, tables."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

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

# A notebook gets plain lines: rich would make each a page of its own, and Jupyter claims to be a terminal in colour.
out = Console(soft_wrap=True, highlight=False, force_jupyter=False, force_terminal=sys.stdout.isatty())
err = Console(soft_wrap=True, highlight=False, force_jupyter=False, force_terminal=sys.stderr.isatty(), stderr=True)


class UserError(Exception):
    """A mistake that the user can mend: one line that says what, where and how to fix it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook, where there is no `run` around a cell."""
        return [_error_line(self)]


def run(main: Callable[[], object]) -> None:
    """Runs a script's `main`: a UserError ends in one line on stderr and exit code 2, a bug keeps its traceback."""
    try:
        main()
    except UserError as error:
        print(_error_line(error), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


def run_cells() -> None:
    """From here on does for a script of cells, which has no `main`, what `run` does for the others."""
    sys.excepthook = _end_script


def _end_script(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    def again() -> None:
        raise error

    if isinstance(error, UserError | KeyboardInterrupt):
        run(again)
    sys.__excepthook__(kind, error, traceback)


def _error_line(error: UserError) -> str:
    """One line; a name out of somebody else's file can't steer the terminal."""
    printable = "".join(each if each.isprintable() else " " for each in str(error))
    return f"error: {' '.join(printable.split())}"


def quiet_libraries() -> None:
    """Keeps the chatter of the training libraries off the terminal; call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm in a notebook without ipywidgets
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft saves, and the hub is away
    if not err.is_terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")


def is_main_process() -> bool:
    """False in all but the first process of a distributed run, so that one process speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "", *, above: Progress | None = None) -> None:
    """Prints one line as it is: square brackets and emoji codes in chat text are no markup. While a bar is shown, the
    line must go `above` it, through the bar's own console, or it lands in the middle of the bar."""
    if is_main_process():
        target = out if above is None or above.disable else above.console
        target.print(text, markup=False, emoji=False)


def heading(text: str) -> None:
    if is_main_process():
        out.print(f"\n{text}", style="bold", markup=False)


def warn(text: str) -> None:
    if is_main_process():
        err.print(f"warning: {text}", style="yellow", markup=False, emoji=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> None:
    """Prints `rows` under `columns`; the columns whose index is in `numeric` are right-aligned."""
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index in numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    Console(highlight=False, emoji=False, force_jupyter=False, force_terminal=out.is_terminal).print(grid)


def escape(text: str) -> str:
    """Chat text that is safe inside rich markup."""
    return text.replace("[", r"\[")


def progress(unit: str = "") -> Progress:
    """A progress bar on stderr that vanishes when done and stays silent where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not (err.is_terminal and is_main_process()),
    )
