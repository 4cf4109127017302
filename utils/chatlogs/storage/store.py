"""The store: every message of the source in one DuckDB file, one row per (channel, id), the newest export's.

It holds exactly what the source holds. It is made from the exports whenever they have changed since, in a new file that
then takes the old one's place, so a run that dies leaves the old store whole. Ask it whatever you like:

    python -c "import duckdb; duckdb.connect('data/processed.duckdb', read_only=True).sql('''
        SELECT author_name, count(*) AS messages, round(avg(length(content))) AS characters
        FROM messages WHERE NOT is_bot AND NOT is_system GROUP BY ALL ORDER BY messages DESC LIMIT 10''').show()"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from utils.chatlogs.storage import database
from utils.chatlogs.storage.columns import EXPORT_COLUMNS, FROM_TABLE, MESSAGE_COLUMNS, ExportTable, arrow

if TYPE_CHECKING:
    import duckdb
    import pyarrow

BATCH_MESSAGES = 20_000
TRANSACTION_MESSAGES = 400_000  # a transaction keeps what it has inserted in memory, and each one costs a sync
FORGOTTEN_AUTHOR = 2**64 - 2  # who "wrote" the gaps that forgotten messages leave; no id of Discord's

_SCHEMA = f"""
    CREATE TABLE messages ({", ".join(f"{name} {kind}" for name, kind in (MESSAGE_COLUMNS | EXPORT_COLUMNS).items())});
    CREATE TABLE channels (id UBIGINT, name VARCHAR, guild_id UBIGINT, guild_name VARCHAR, is_thread BOOLEAN);
    CREATE TABLE forgotten (id UBIGINT);
    CREATE TABLE reading (fingerprint VARCHAR, copies BIGINT, found VARCHAR);
"""
# Of several copies of a message the one from the newest export stays, and from the latest file among equally new ones.
_LEAVE_ONE_COPY = """
    DELETE FROM messages WHERE rowid IN (
        SELECT rowid FROM messages SEMI JOIN (
            SELECT channel_id, id FROM messages GROUP BY channel_id, id HAVING count(*) > 1) USING (channel_id, id)
        QUALIFY row_number() OVER (PARTITION BY channel_id, id ORDER BY exported_at_ms DESC, rowid DESC) > 1)
"""
# What is left of a forgotten message is its place, so that an answer to it isn't taken for an answer to somebody else.
_WITHOUT_FORGOTTEN = f"""
    SELECT * EXCLUDE gone REPLACE (
        CASE WHEN gone THEN {FORGOTTEN_AUTHOR} ELSE author_id END AS author_id,
        CASE WHEN gone THEN '' ELSE author_name END AS author_name,
        CASE WHEN gone THEN '' ELSE author_nickname END AS author_nickname,
        CASE WHEN gone THEN '' ELSE content END AS content,
        CASE WHEN gone THEN NULL ELSE reply_to END AS reply_to,
        CASE WHEN gone THEN [] ELSE mentions END AS mentions,
        CASE WHEN gone THEN 'forgotten' ELSE form END AS form)
    FROM (SELECT *, id IN (FROM forgotten) OR author_id IN (FROM forgotten) AS gone FROM {{rows}})
"""
# A thread has the id of the message that it was started from, and its title are words of whoever wrote that.
_WITHOUT_FORGOTTEN_TITLES = """
    SELECT * REPLACE (
        CASE WHEN id IN (SELECT id FROM messages WHERE form = 'forgotten') THEN '' ELSE name END AS name)
    FROM {rows}
"""


@contextmanager
def rebuilt(path: Path, forgotten_ids: Sequence[int] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty store, which takes the place of the one at `path` when the block ends well.

    Raises UserError as `database.replaced` does.
    """
    with database.replaced(path) as connection:
        create(connection, forgotten_ids)
        yield connection


def create(connection: duckdb.DuckDBPyConnection, forgotten_ids: Sequence[int] = ()) -> None:
    connection.execute(_SCHEMA)
    if forgotten_ids:
        connection.execute("INSERT INTO forgotten SELECT DISTINCT unnest($1::UBIGINT[])", [list(forgotten_ids)])


def fill(connection: duckdb.DuckDBPyConnection, exports: Iterable[ExportTable]) -> int:
    """Puts the messages of the exports into an empty store.

    Returns how many were left out, since a newer export holds them, too, or since their ids are no ids.
    """
    connection.begin()
    connection.execute("SET threads = 1")  # more would take the second core from those who read
    read = _append(connection, exports)
    connection.execute(f"SET threads = {database.THREADS}")
    connection.execute(_LEAVE_ONE_COPY)
    ((stored,),) = connection.execute("SELECT count(*) FROM messages").fetchall()
    connection.commit()
    return read - stored


def _append(connection: duckdb.DuckDBPyConnection, exports: Iterable[ExportTable]) -> int:
    """Puts messages and channels into their tables, and counts the messages."""
    rows = _WITHOUT_FORGOTTEN.format(rows=FROM_TABLE) if forgotten(connection) else f"FROM {FROM_TABLE}"

    uncommitted = 0

    def insert(batch: pyarrow.Table) -> None:
        nonlocal uncommitted
        connection.register("batch", batch)
        connection.execute(f"INSERT INTO messages {rows}")
        connection.unregister("batch")
        uncommitted += batch.num_rows
        if uncommitted >= TRANSACTION_MESSAGES:
            connection.commit()
            connection.begin()
            uncommitted = 0

    read = 0
    newest: dict[int, ExportTable] = {}

    def tables() -> Iterator[pyarrow.Table]:
        nonlocal read
        for export in exports:
            known = newest.get(export.channel.id) if export.channel else None
            if export.channel and (known is None or export.exported_at_ms >= known.exported_at_ms):
                newest[export.channel.id] = replace(export, columns={})
            read += export.rows + export.left_out
            yield arrow(export)

    with ThreadPoolExecutor(1) as writer:  # DuckDB takes one batch on the second core while the next one is read
        inserted: Future | None = None
        for batch in _batches(tables()):
            if inserted is not None:
                inserted.result()
            inserted = writer.submit(insert, batch)
        if inserted is not None:
            inserted.result()
    infos = [astuple(newest[channel_id].channel) for channel_id in sorted(newest)]
    if infos:  # a source of ready-made examples has no channel
        new = "(VALUES (?, ?, ?, ?, ?)) AS new (id, name, guild_id, guild_name, is_thread)"
        connection.executemany("INSERT INTO channels " + _WITHOUT_FORGOTTEN_TITLES.format(rows=new), infos)
    return read


def _batches(tables: Iterable[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    """The same rows in tables of BATCH_MESSAGES or more."""
    import pyarrow

    batch: list[pyarrow.Table] = []
    for table in tables:
        batch.append(table)
        if sum(one.num_rows for one in batch) >= BATCH_MESSAGES:
            yield pyarrow.concat_tables(batch)
            batch = []
    if batch:
        yield pyarrow.concat_tables(batch)


def rewrite(path: Path, ids: Sequence[int], found: str) -> None:
    """Makes the store again without the people and messages of these ids: not one byte of their words stays in it.

    `found` is the reading that takes the place of the old one, with the examples that are left.
    """
    with database.opened(path) as old:
        ids = [*forgotten(old), *ids]
    with rebuilt(path, ids) as connection:
        connection.execute(f"ATTACH {_quoted(path)} AS old (READ_ONLY)")
        connection.execute("INSERT INTO messages " + _WITHOUT_FORGOTTEN.format(rows="old.messages"))
        connection.execute("INSERT INTO channels " + _WITHOUT_FORGOTTEN_TITLES.format(rows="old.channels"))
        connection.execute("INSERT INTO reading SELECT * REPLACE (? AS found) FROM old.reading", [found])
        connection.execute("DETACH old")
    database.remove_spilled(path)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def forgotten(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """The ids of people and messages that were asked to be forgotten."""
    return [one for (one,) in connection.execute("FROM forgotten ORDER BY id").fetchall()]


@dataclass(frozen=True)
class Contents:
    """What a store holds. `copies` were left out for a newer one; the moments are UTC, in milliseconds."""

    channels: int
    messages: int
    copies: int
    first_ms: int
    last_ms: int


def contents(connection: duckdb.DuckDBPyConnection) -> Contents:
    (row,) = connection.execute(
        "SELECT (SELECT count(*) FROM channels), count(*), (SELECT copies FROM reading), "
        "coalesce(min(unix_ms), 0), coalesce(max(unix_ms), 0) FROM messages"
    ).fetchall()
    return Contents(*row)
