"""What a person sees in the terminal: one-line errors, progress, tables."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence

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

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class UserError(Exception):
    """A mistake that the user can mend: one line that says what, where and how to fix it."""


def run(main: Callable[[], object]) -> None:
    """Runs a script's `main`: a UserError ends in one line on stderr and exit code 2, a bug keeps its traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)


def quiet_libraries() -> None:
    """Keeps the chatter of the training libraries off the terminal; call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if not err.is_terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


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
    Console(highlight=False, emoji=False).print(grid)


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
