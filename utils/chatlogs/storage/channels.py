"""The store -> the channels' messages around the persona's own: the rest never becomes a Python object."""

from __future__ import annotations

from collections.abc import Iterator, Set
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

_COLUMNS = ", ".join(MESSAGE_COLUMNS)
# `place` counts the messages of a channel that take part, in order.
_TAKES_PART = "kind NOT IN ('command', 'empty')"
_KINDS = f"""
    CREATE OR REPLACE TEMP TABLE kinds AS
    SELECT *, sum({_TAKES_PART}::INTEGER) OVER (PARTITION BY channel_id ORDER BY id ROWS UNBOUNDED PRECEDING) AS place
    FROM (SELECT channel_id, id, author_id, is_system, reply_to, {selection.SQL_KIND} AS kind FROM messages
          WINDOW channel AS (PARTITION BY channel_id ORDER BY id))
"""


@dataclass(frozen=True)
class Channel:
    """Messages of one channel in the order of their ids: all, or a piece that can be paired without the others."""

    info: ChannelInfo
    messages: list[Message]
    persona_alone: bool = False  # nobody else wrote in the whole channel, as in a data package


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
    alone = connection.execute(
        "SELECT channel_id FROM kinds GROUP BY channel_id HAVING bool_and(author_id = ?)", [persona_id]
    ).fetchall()
    for channel_id, places in groupby(own, key=itemgetter(0)):
        for piece in selection.pieces(selection.stretches(place for _, place in places)):
            messages = _messages(connection, persona_id, channel_id, piece)
            yield Channel(known[channel_id], messages, (channel_id,) in alone)


def _messages(
    connection: duckdb.DuckDBPyConnection, persona_id: int, channel_id: int, stretches: list[tuple[int, int]]
) -> list[Message]:
    firsts, lasts = zip(*stretches, strict=True)
    rows = connection.execute(
        f"""
        WITH stretches AS (SELECT unnest($firsts::BIGINT[]) AS first, unnest($lasts::BIGINT[]) AS last),
        near AS (
            SELECT id, reply_to, author_id, is_system FROM kinds JOIN stretches ON place BETWEEN first AND last
            WHERE channel_id = $channel AND {_TAKES_PART}),
        quoted AS (
            SELECT reply_to AS id FROM near WHERE author_id = $persona AND NOT is_system
            INTERSECT SELECT id FROM kinds WHERE channel_id = $channel AND {_TAKES_PART})
        SELECT {_COLUMNS} FROM messages
        WHERE channel_id = $channel AND id IN (SELECT id FROM near UNION SELECT id FROM quoted) ORDER BY id
        """,
        {"firsts": firsts, "lasts": lasts, "channel": channel_id, "persona": persona_id},
    ).fetchall()
    return to_messages(rows)
