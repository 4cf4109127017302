"""Messages <-> columns: the form in which messages enter the store and leave it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sized
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
_TYPECODES = {"UBIGINT": "Q", "BIGINT": "q", "INTEGER": "i"}
FROM_TABLE = "(SELECT * REPLACE (nullif(reply_to, 0) AS reply_to) FROM batch)"
LARGEST_ID = 2**64 - 1
_LARGEST_COUNT = 2**31 - 1

Buffers = tuple[bytes, ...]


@dataclass(frozen=True)
class ExportTable:
    """The messages of an export, on their way into the store.

    `channel` is None where 64 bits don't hold its id. `columns` has MESSAGE_COLUMNS and EXPORT_COLUMNS, each as the
    bytes that `arrow` makes a column of: they pass from one process to another without a look at what they hold. `form`
    is what the text alone says, see selection.forms. Booleans are numbers, and a `reply_to` of 0 is none, until
    FROM_TABLE reads them. `left_out` counts the messages that are not there since 64 bits don't hold their ids.
    """

    channel: ChannelInfo | None
    exported_at_ms: int
    rows: int
    columns: Mapping[str, Buffers]
    left_out: int = 0


def to_table(export: Export, place: int) -> ExportTable:
    """`place` is the export's among all."""
    channel = export.channel if _is_held(export.channel.id) else None
    if channel and not _is_held(channel.guild_id):
        channel = replace(channel, guild_id=0)
    try:
        return replace(_table(export, place), channel=channel)
    except (OverflowError, UnicodeEncodeError):
        usable = replace(export, messages=list(_usable(export.messages)))
        left_out = len(export.messages) - len(usable.messages)
        return replace(_table(usable, place), channel=channel, left_out=left_out)


def _is_held(number: int) -> bool:
    return 0 <= number <= LARGEST_ID


def _table(export: Export, place: int) -> ExportTable:
    values = dict(MessageColumns.of(export.messages).columns)
    rows = len(values["id"])
    values["reply_to"] = [target or 0 for target in values["reply_to"]]
    values["form"] = selection.forms(values["content"], values["attachments"])
    columns = {name: _buffers(MESSAGE_COLUMNS.get(name, "VARCHAR"), column) for name, column in values.items()}
    for name, value in (("exported_at_ms", export.exported_at_ms), ("export", place)):
        columns[name] = ((array("q", [value]) * rows).tobytes(),)
    return ExportTable(export.channel, export.exported_at_ms, rows, columns)


def _buffers(kind: str, values: list) -> Buffers:
    """The bytes of an Arrow column of a DuckDB type.

    `pyarrow.array` makes a column of a list, too, but imports pandas first, which takes longer than decoding 112 MB.
    Raises OverflowError for a number that the type can't hold, and UnicodeEncodeError for a lone surrogate.
    """
    if kind == "VARCHAR":
        text = "".join(values)
        data = text.encode()
        return _offsets(values if len(data) == len(text) else map(str.encode, values)), data
    if kind == "UBIGINT[]":
        return _offsets(values), *_buffers("UBIGINT", list(chain.from_iterable(values)))
    if kind == "BOOLEAN":
        return (bytes(values),)
    return (array(_TYPECODES[kind], values).tobytes(),)


def _offsets(parts: Iterable[Sized]) -> bytes:
    return array("i", accumulate(map(len, parts), initial=0)).tobytes()


def arrow(table: ExportTable) -> pyarrow.Table:
    """The same rows as an Arrow table: its columns are the bytes as they are."""
    import pyarrow

    numbers = {
        "UBIGINT": pyarrow.uint64(),
        "BIGINT": pyarrow.int64(),
        "INTEGER": pyarrow.int32(),
        "BOOLEAN": pyarrow.uint8(),
    }

    def column(kind: str, buffers: Buffers) -> pyarrow.Array:
        first, *others = map(pyarrow.py_buffer, buffers)
        if kind == "VARCHAR":
            return pyarrow.StringArray.from_buffers(table.rows, first, *others)
        if kind == "UBIGINT[]":
            (items,) = others
            ids = pyarrow.Array.from_buffers(pyarrow.uint64(), items.size // 8, [None, items])
            return pyarrow.Array.from_buffers(pyarrow.list_(ids.type), table.rows, [None, first], children=[ids])
        return pyarrow.Array.from_buffers(numbers[kind], table.rows, [None, first])

    kinds = MESSAGE_COLUMNS | EXPORT_COLUMNS
    return pyarrow.table({name: column(kind, table.columns[name]) for name, kind in kinds.items()})


def _usable(messages: Iterable[Message]) -> Iterator[Message]:
    for message in messages:
        ids = (message.id, message.channel_id, message.author_id)
        if not all(map(_is_held, ids)) or not -(2**63) <= message.unix_ms < 2**63:
            continue
        reply_to = message.reply_to
        yield msgspec.structs.replace(
            message,
            author_name=_mended(message.author_name),
            author_nickname=_mended(message.author_nickname),
            content=_mended(message.content),
            reply_to=reply_to if reply_to is not None and _is_held(reply_to) else None,
            mentions=tuple(filter(_is_held, message.mentions)),
            attachments=min(max(message.attachments, 0), _LARGEST_COUNT),
            reactions=min(max(message.reactions, 0), _LARGEST_COUNT),
        )


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_messages(rows: Iterable[tuple]) -> list[Message]:
    """Rows of MESSAGE_COLUMNS as messages."""
    return [Message(*row[:11], tuple(row[11]), *row[12:]) for row in rows]
