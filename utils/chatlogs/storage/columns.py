"""Messages <-> columns: the form in which messages enter the store and leave it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from utils.chatlogs.message import Message
from utils.chatlogs.sources.export import Export
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
LARGEST_ID = 2**64 - 1
_LARGEST_COUNT = 2**31 - 1


def to_table(exports: Sequence[tuple[int, Export]]) -> tuple[pyarrow.Table, int]:
    """A table of MESSAGE_COLUMNS and EXPORT_COLUMNS, and how many messages were left out since 64 bits don't hold them.

    Each export comes with its place among all. `form` is what the text alone says, see selection.form_of.
    """
    import pyarrow

    try:
        return _arrow(exports), 0
    except (OverflowError, UnicodeEncodeError, pyarrow.ArrowInvalid):
        usable = [(place, replace(export, messages=list(_usable(export.messages)))) for place, export in exports]
        left_out = sum(len(export.messages) for _, export in exports) - sum(len(one.messages) for _, one in usable)
        return _arrow(usable), left_out


def _arrow(exports: Sequence[tuple[int, Export]]) -> pyarrow.Table:
    import pyarrow

    types = {
        "UBIGINT": pyarrow.uint64(),
        "BIGINT": pyarrow.int64(),
        "VARCHAR": pyarrow.string(),
        "BOOLEAN": pyarrow.bool_(),
        "UBIGINT[]": pyarrow.list_(pyarrow.uint64()),
        "INTEGER": pyarrow.int32(),
    }
    messages = [message for _, export in exports for message in export.messages]
    columns = [list(map(attrgetter(name), messages)) for name in MESSAGE_COLUMNS]
    columns.append(list(map(selection.form_of, messages)))
    columns.append([export.exported_at_ms for _, export in exports for _ in export.messages])
    columns.append([place for place, export in exports for _ in export.messages])
    kinds = (MESSAGE_COLUMNS | EXPORT_COLUMNS).items()
    return pyarrow.table(
        {name: pyarrow.array(column, types[kind]) for (name, kind), column in zip(kinds, columns, strict=True)}
    )


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
