"""Messages <-> columns: the form in which messages enter the store and leave it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import msgspec

from utils.chatlogs.message import Message, MessageColumns
from utils.chatlogs.sources.export import ChannelInfo, Export
from utils.chatlogs.storage import selection

if TYPE_CHECKING:
    import pyarrow

# Message's fields in their order -> DuckDB's type. Ids are unsigned 64-bit integers, never floats.
MESSAGE_COLUMNS = {
    "id": "UBIGINT",
    "channel_id": "UBIGINT",
    "unix_ms": "BIGINT",
    "author_id": "UBIGINT",
    "author_name": "VARCHAR",
    "content": "VARCHAR",
    "author_nickname": "VARCHAR",
    "is_bot": "BOOLEAN",
    "is_system": "BOOLEAN",
    "is_forward": "BOOLEAN",
    "reply_to": "UBIGINT",
    "mentions": "UBIGINT[]",
    "attachments": "INTEGER",
    "reactions": "INTEGER",
}
EXPORT_COLUMNS = {"form": "VARCHAR", "exported_at_ms": "BIGINT", "export": "BIGINT"}
FROM_TABLE = "(SELECT * REPLACE (nullif(reply_to, 0) AS reply_to) FROM batch)"
LARGEST_ID = 2**64 - 1
_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class ExportTable:
    """The messages of an export, on their way into the store.

    `table` has MESSAGE_COLUMNS and EXPORT_COLUMNS. `form` is what the text alone says, see selection.forms. Booleans
    are numbers, and a `reply_to` of 0 is none, until FROM_TABLE reads them. `left_out` counts the messages that are not
    there since 64 bits don't hold their ids.
    """

    channel: ChannelInfo
    exported_at_ms: int
    table: pyarrow.Table
    left_out: int = 0


def to_table(export: Export, place: int) -> ExportTable:
    """`place` is the export's among all."""
    try:
        return ExportTable(export.channel, export.exported_at_ms, _arrow(export, place))
    except (OverflowError, UnicodeEncodeError):
        usable = replace(export, messages=list(_usable(export.messages)))
        left_out = len(export.messages) - len(usable.messages)
        return ExportTable(export.channel, export.exported_at_ms, _arrow(usable, place), left_out)


def _arrow(export: Export, place: int) -> pyarrow.Table:
    import pyarrow

    values = dict(MessageColumns.of(export.messages).columns)
    count = len(values["id"])
    values["reply_to"] = [target or 0 for target in values["reply_to"]]
    values["form"] = selection.forms(values["content"], values["attachments"])
    values["exported_at_ms"] = [export.exported_at_ms] * count
    values["export"] = [place] * count
    return pyarrow.table(
        {name: _column(kind, values[name]) for name, kind in (MESSAGE_COLUMNS | EXPORT_COLUMNS).items()}
    )


def _column(kind: str, values: list) -> pyarrow.Array:
    """An Arrow column of a DuckDB type, from its bytes.

    `pyarrow.array` makes one of a list, too, but imports pandas first: that takes 0.3 s, as long as decoding 112 MB.
    Raises OverflowError for a number that the type can't hold, and UnicodeEncodeError for a lone surrogate.
    """
    import pyarrow

    def buffer(numbers: Iterable[int], typecode: str) -> pyarrow.Buffer:
        return pyarrow.py_buffer(array(typecode, numbers))

    def offsets(parts: Iterable[Sized]) -> pyarrow.Buffer:
        return buffer(accumulate(map(len, parts), initial=0), "i")

    if kind == "VARCHAR":
        text = "".join(values)
        parts = values if text.isascii() else map(str.encode, values)
        return pyarrow.StringArray.from_buffers(len(values), offsets(parts), pyarrow.py_buffer(text.encode()))
    if kind == "UBIGINT[]":
        items = _column("UBIGINT", list(chain.from_iterable(values)))
        kinds = pyarrow.list_(pyarrow.uint64())
        return pyarrow.Array.from_buffers(kinds, len(values), [None, offsets(values)], children=[items])
    dtype, typecode = {
        "UBIGINT": (pyarrow.uint64(), "Q"),
        "BIGINT": (pyarrow.int64(), "q"),
        "INTEGER": (pyarrow.int32(), "i"),
        "BOOLEAN": (pyarrow.uint8(), "B"),
    }[kind]
    return pyarrow.Array.from_buffers(dtype, len(values), [None, buffer(values, typecode)])


def _usable(messages: Iterable[Message]) -> Iterator[Message]:
    for message in messages:
        ids = (message.id, message.channel_id, message.author_id)
        if not all(0 <= one <= LARGEST_ID for one in ids) or not -(2**63) <= message.unix_ms < 2**63:
            continue
        reply_to = message.reply_to
        yield msgspec.structs.replace(
            message,
            author_name=_mended(message.author_name),
            author_nickname=_mended(message.author_nickname),
            content=_mended(message.content),
            reply_to=reply_to if reply_to is not None and 0 <= reply_to <= LARGEST_ID else None,
            mentions=tuple(user for user in message.mentions if 0 <= user <= LARGEST_ID),
            attachments=min(max(message.attachments, 0), _LARGEST_COUNT),
            reactions=min(max(message.reactions, 0), _LARGEST_COUNT),
        )


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_messages(rows: Iterable[tuple]) -> list[Message]:
    """Rows of MESSAGE_COLUMNS as messages."""
    return [Message(*row[:11], tuple(row[11]), *row[12:]) for row in rows]
