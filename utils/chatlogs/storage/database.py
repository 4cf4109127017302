"""The store's file: opened, made anew beside itself, put in place when it is whole; and what its disk can do to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from utils import output_folders
from utils.console import UserError

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "192MB"  # what DuckDB keeps in memory; sorting more than that goes over the disk
THREADS = 2
_TABLES = frozenset(["messages", "forgotten"])
# DuckDB would fetch an extension from the network for a file of another database's, or for a function unknown to it.
_CONFIG = {
    "memory_limit": MEMORY_LIMIT,
    "threads": THREADS,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def connect(path: Path | str, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Raises UserError where the file is no database, or another run holds it."""
    import duckdb

    whole = str(Path(path).absolute())
    if os.name == "posix" and (set("?\\") & set(whole) or not whole.isprintable()):
        raise UserError(
            f"the store can't be {whole!r}: a path for DuckDB has no ?, no \\, and only printable letters; pass --store"
        )
    try:
        connection = duckdb.connect(path, read_only=read_only, config=_CONFIG)
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise UserError(f"another run is using {path}; wait until it is done, or pass --store") from None
        raise _fault(Path(path), error) from None
    except duckdb.Error as error:
        raise _no_store(Path(path), _first_line(error)) from None
    connection.execute("SET preserve_insertion_order = true")
    # DuckDB's newest way of packing text halves the store, which is a fifth of the exports; it takes 0.1 s in 2.4.
    connection.execute("SET disabled_compression_methods = 'dict_fsst'")
    return connection


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The store at `path`, to be read. Raises UserError where it is none, is damaged, or another run holds it."""
    with disk_faults(path), connect(path, read_only=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if not tables >= _TABLES:
            raise _no_store(path, f"its tables are {', '.join(sorted(tables)) or 'none'}")
        yield connection


@contextmanager
def replaced(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database, which takes the place of the one at `path` when the block ends well, and leaves nothing behind
    when it does not.

    Raises UserError where the folder can't be written, the disk is full, or another run is making the same database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    with output_folders.claimed(path), disk_faults(path):
        staged = path.with_name(f".{path.name}.new")
        _remove(staged)
        connection = connect(staged)
        try:
            yield connection
            connection.execute("CHECKPOINT")  # closing does that, too, and keeps to itself that the disk is full
            connection.close()
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            staged.replace(path)
        finally:
            connection.close()
            _remove(staged)


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Raises UserError in place of what DuckDB raises where the file at `path` can't be read or written."""
    import duckdb

    try:
        yield
    except OSError as error:
        if error.filename and Path(error.filename).name.startswith((path.name, f".{path.name}")):
            raise _not_writable(path, error) from error
        raise
    except duckdb.Error as error:  # a full disk fails a commit, too, and then whatever comes after it
        of_the_disk = ("Could not", "No space left", "Failed to commit", "database has been invalidated")
        if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException) or any(
            words in str(error) for words in of_the_disk
        ):
            raise _fault(path, error) from error
        raise


def remove_spilled(path: Path) -> None:
    """What DuckDB put on the disk while it sorted: a run that is killed leaves it there, messages and all."""
    shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)


def _remove(staged: Path) -> None:
    for leftover in (staged, staged.with_name(staged.name + ".wal")):
        leftover.unlink(missing_ok=True)
    remove_spilled(staged)


def _fault(path: Path, error: Exception) -> UserError:
    if "read enough bytes" in str(error) or "not a valid DuckDB" in str(error) or "checksum" in str(error):
        return UserError(
            f"the store {path} is damaged ({_first_line(error)}); delete it, and the exports make it again, but not the"
            " list of whom to forget"
        )
    room = "" if "denied" in str(error) or "Read-only" in str(error) else "make room, "
    return UserError(f"can't use the store {path} ({_first_line(error)}); {room}set STORE, or pass --store")


def _no_store(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is no store of messages ({reason}); name another file with --store")


def _not_writable(path: Path, error: OSError) -> UserError:
    return UserError(f"can't write {path}: {error.strerror}; set STORE, or pass --store")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
