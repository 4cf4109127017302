"""Messages in a store that lives in memory, for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from utils.chatlogs.message import Message
from utils.chatlogs.sources.export import ChannelInfo, Export
from utils.chatlogs.storage import channels, database, store
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.storage.columns import MESSAGE_COLUMNS, to_messages, to_table


def in_memory(exports: Iterable[Export]):
    connection, _ = filled(exports)
    return connection


def filled(exports: Iterable[Export]):
    """The connection, and how many copies were left out."""
    connection = database.connect(":memory:")
    store.create(connection)
    return connection, store.fill(connection, map(to_table, exports, count()))


def in_channel(messages: Sequence[Message]):
    return in_memory([Export(ChannelInfo(messages[0].channel_id), list(messages))])


def gather(exports: Iterable[Export]) -> tuple[list[Channel], int]:
    """Every channel with all its messages, and how many copies were left out."""
    connection, copies = filled(exports)
    query = f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM messages WHERE channel_id = ? ORDER BY id"
    found = [
        Channel(info, to_messages(connection.execute(query, [info.id]).fetchall()))
        for info in channels.infos(connection).values()
    ]
    return found, copies
