"""The source -> the store of its messages, made again only where something has changed since the last run."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from utils.chatlogs import second_process
from utils.chatlogs.sources import readers, source_files
from utils.chatlogs.sources.readers import Reading
from utils.chatlogs.storage import database, store
from utils.chatlogs.storage.columns import ExportTable, to_table

if TYPE_CHECKING:
    import duckdb

SECOND_PROCESS_BYTES = 32 << 20  # a second process pays where there is so much to read


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """DuckDB ends a query on Ctrl-C with an error of its own."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def opened(
    path: Path, source: Path | Sequence[Path] | None, *, write: bool = True
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Reading]]:
    """The store of exactly the messages that the source holds, to be read, and what was met on reading it.

    With the source None the store is used as it is. Without `write` a store that is up to date is used, else one in a
    temporary folder. Who was forgotten stays so.

    Raises UserError as readers.stream, database.opened and store.rebuilt do.
    """
    mark = fingerprint(source) if source is not None else None
    with ExitStack() as closing:
        closing.enter_context(_ctrl_c())
        forgotten: list[int] = []
        if path.exists():
            connection = closing.enter_context(database.opened(path))
            reading = last_reading(connection, mark)
            if reading is not None:
                yield connection, reading
                return
            forgotten = store.forgotten(connection)
            connection.close()
        if not write:
            path = Path(closing.enter_context(tempfile.TemporaryDirectory())) / path.name
        found = closing.enter_context(_found(source))
        with store.rebuilt(path, forgotten) as connection:
            from utils.chatlogs import examples  # brings most of the stage along, while the first exports are read

            copies = store.fill(connection, iter(found.__next__, None))
            reading = next(found)
            reading.records = examples.without_forgotten(connection, reading.records)
            connection.execute("INSERT INTO reading VALUES (?, ?, ?)", [mark, copies, encode(reading)])
        yield closing.enter_context(database.opened(path)), reading


def _read(source: Path | Sequence[Path]) -> Iterator[ExportTable | Reading | None]:
    """Every export, then None, then what was met."""
    reading = Reading()
    yield from map(to_table, readers.stream(source, reading), count())
    yield None
    yield reading


def _found(source: Path | Sequence[Path]) -> AbstractContextManager[Iterator[ExportTable | Reading | None]]:
    """The same, out of a second process where there is enough to read."""
    size_bytes = sum(file.stat().st_size for file in _files(source))
    if size_bytes >= SECOND_PROCESS_BYTES and second_process.is_at_hand():
        return second_process.ahead(_read(source))
    return nullcontext(_read(source))


def encode(reading: Reading) -> str:
    """What was met, without the messages, as the store keeps it."""
    return msgspec.json.encode(replace(reading, exports=[]), enc_hook=source_files.as_text).decode()


def fingerprint(source: Path | Sequence[Path]) -> str:
    """Changes when a file under the source comes, goes, or gets another size or time, and with the code that reads."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(module.read_bytes())
    for file in _files(source):
        seen = file.stat()
        digest.update(f"{file.resolve()}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(source: Path | Sequence[Path]) -> Iterator[Path]:
    for path in source_files.many(source):
        yield from filter(Path.is_file, sorted(path.rglob("*")) if path.is_dir() else [path])


def last_reading(connection: duckdb.DuckDBPyConnection, mark: str | None) -> Reading | None:
    """What was met when the store was made, if it was made from what `mark` stands for; None stands for anything."""
    import duckdb

    try:
        rows = connection.execute(
            "SELECT found FROM reading WHERE fingerprint = coalesce(?, fingerprint)", [mark]
        ).fetchall()
    except duckdb.CatalogException:
        return None
    return msgspec.json.decode(rows[0][0], type=Reading, dec_hook=lambda kind, value: kind(value)) if rows else None
