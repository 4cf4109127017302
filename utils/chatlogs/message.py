"""Message: what every reader yields, whatever the export looked like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import overload

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One chat message, as raw as the export has it.

    `unix_ms` is UTC, in milliseconds. Ids are Discord snowflakes as Python integers, never floats. `content` still
    holds Discord's markup. `reply_to` is set only for a reply proper, never for a forward or a thread's starter.
    """

    id: int
    channel_id: int
    unix_ms: int
    author_id: int
    author_name: str  # the account's name
    content: str
    author_nickname: str = ""  # the name shown in the server, where the export has one
    is_bot: bool = False
    is_system: bool = False  # text written by Discord: joins, pins, boosts
    is_forward: bool = False  # the words of somebody else
    reply_to: int | None = None
    mentions: tuple[int, ...] = ()  # user ids, in the order of the export
    attachments: int = 0  # files, stickers and embeds together
    reactions: int = 0  # in all, over every emoji


class MessageColumns(Sequence[Message]):
    """Messages as one list per field, all of one length.

    Most messages of a source only pass through on their way into the store: making no object of each of them saves a
    third of the reading.
    """

    def __init__(self, **columns: list):
        """`columns` holds every field of Message, in its order."""
        self.columns = columns

    @classmethod
    def of(cls, messages: Sequence[Message]) -> MessageColumns:
        if isinstance(messages, cls):
            return messages
        return cls(**{name: list(map(attrgetter(name), messages)) for name in Message.__struct_fields__})

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __iter__(self) -> Iterator[Message]:
        return map(Message, *self.columns.values())

    @overload
    def __getitem__(self, place: int) -> Message: ...

    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...

    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return list(self)[place]
        return Message(*(values[place] for values in self.columns.values()))
