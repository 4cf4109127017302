"""The store -> the channels' messages around the persona's own: the rest never becomes a Python object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from utils.chatlogs.message import Message
from utils.chatlogs.sources.export import ChannelInfo
from utils.chatlogs.storage import selection
from utils.chatlogs.storage.columns import MESSAGE_COLUMNS, to_messages
from utils.chatlogs.storage.selection import Counts

if TYPE_CHECKING:
    import duckdb

BATCH_MESSAGES = 4_000  # around the persona, that one query asks for; a channel with more has one to itself
_COLUMNS = ", ".join(MESSAGE_COLUMNS)
# `place` counts the messages that take part, channel by channel, in order.
_TAKES_PART = "kind NOT IN ('command', 'empty')"
_KINDS = f"""
    CREATE OR REPLACE TEMP TABLE kinds AS
    SELECT *, sum({_TAKES_PART}::INTEGER) OVER (ORDER BY channel_id, id ROWS UNBOUNDED PRECEDING) AS place
    FROM (SELECT channel_id, id, author_id, is_system, reply_to, {selection.SQL_KIND} AS kind FROM messages
          WINDOW channel AS (PARTITION BY channel_id ORDER BY id))
"""


@dataclass(frozen=True)
class Channel:
    """Messages of one channel in the order of their ids: all, or a piece that can be paired without the others."""

    info: ChannelInfo
    messages: list[Message]
    persona_alone: bool = False  # nobody else wrote in the whole channel, as in a data package


@dataclass(frozen=True)
class Piece:
    """Stretches of one channel, by the places of their first and last messages. Where the channel begins or ends within
    one, the places go on in another channel."""

    channel_id: int
    stretches: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return sum(last - first + 1 for first, last in self.stretches)


def infos(connection: duckdb.DuckDBPyConnection, excluded_ids: Set[int] = frozenset()) -> dict[int, ChannelInfo]:
    """Every channel in the order of the ids; a thread that hangs on a message of `excluded_ids` without its title."""
    rows = connection.execute(
        """
        SELECT id, CASE WHEN id IN (SELECT id FROM messages WHERE author_id IN (SELECT unnest($1::UBIGINT[])))
            THEN '' ELSE name END, guild_id, guild_name, is_thread
        FROM channels ORDER BY id
        """,
        [list(excluded_ids)],
    ).fetchall()
    return {row[0]: ChannelInfo(*row) for row in rows}


def around(
    connection: duckdb.DuckDBPyConnection, persona_id: int, excluded_ids: Set[int] = frozenset()
) -> tuple[Counts, Iterator[Channel]]:
    """How many messages of each kind there are, and those that say what the persona answers, piece by piece.

    A piece holds the stretches around the persona's messages and what those reply to, without commands and empty ones.
    Threads that `excluded_ids` started come without their titles.
    """
    connection.execute(_KINDS)
    counts = Counts()
    for kind, everybody, own in connection.execute(
        "SELECT kind, count(*), count(*) FILTER (author_id = ?) FROM kinds GROUP BY kind ORDER BY kind", [persona_id]
    ).fetchall():
        counts.everybody[kind] = everybody
        if own:
            counts.persona[kind] = own
    return counts, _pieces(connection, persona_id, excluded_ids)


def _pieces(connection: duckdb.DuckDBPyConnection, persona_id: int, excluded_ids: Set[int]) -> Iterator[Channel]:
    own = connection.execute(
        f"SELECT channel_id, place FROM kinds WHERE author_id = ? AND NOT is_system AND {_TAKES_PART} "
        "ORDER BY channel_id, place",
        [persona_id],
    ).fetchall()
    known = infos(connection, excluded_ids)
    alone = {
        channel_id
        for (channel_id,) in connection.execute(
            "SELECT channel_id FROM kinds GROUP BY channel_id HAVING bool_and(author_id = ?)", [persona_id]
        ).fetchall()
    }
    pieces = (
        Piece(channel_id, stretches)
        for channel_id, places in groupby(own, key=itemgetter(0))
        for stretches in selection.pieces(selection.stretches(place for _, place in places))
    )
    for batch in _batches(pieces):
        for piece, messages in zip(batch, _messages(connection, persona_id, batch), strict=True):
            yield Channel(known[piece.channel_id], messages, piece.channel_id in alone)


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """One large piece or many small ones: a query takes some milliseconds, and a data package has hundreds of
    channels."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        if batch and size + piece.size > BATCH_MESSAGES:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece.size
    if batch:
        yield batch


def _messages(connection: duckdb.DuckDBPyConnection, persona_id: int, batch: list[Piece]) -> list[list[Message]]:
    """The messages of each piece."""
    stretches = [
        (number, piece.channel_id, *stretch) for number, piece in enumerate(batch) for stretch in piece.stretches
    ]
    numbers, channels, firsts, lasts = zip(*stretches, strict=True)
    rows = connection.execute(
        f"""
        WITH stretches AS (
            SELECT unnest($numbers::INTEGER[]) AS piece, unnest($channels::UBIGINT[]) AS channel_id,
                unnest($firsts::BIGINT[]) AS first, unnest($lasts::BIGINT[]) AS last),
        near AS (
            SELECT piece, kinds.channel_id, id, reply_to, author_id, is_system
            FROM kinds JOIN stretches ON place BETWEEN first AND last
            WHERE kinds.channel_id = stretches.channel_id AND {_TAKES_PART}),
        quoted AS (
            SELECT piece, near.channel_id, kinds.id
            FROM near JOIN kinds ON kinds.channel_id = near.channel_id AND kinds.id = near.reply_to
            WHERE near.author_id = $persona AND NOT near.is_system AND {_TAKES_PART}),
        wanted AS (SELECT piece, channel_id, id FROM near UNION SELECT * FROM quoted)
        SELECT {_COLUMNS}, piece FROM messages JOIN wanted USING (channel_id, id) ORDER BY piece, id
        """,
        {"numbers": numbers, "channels": channels, "firsts": firsts, "lasts": lasts, "persona": persona_id},
    ).fetchall()
    return [to_messages(row[:-1] for row in rows) for _, rows in groupby(rows, key=itemgetter(-1))]
