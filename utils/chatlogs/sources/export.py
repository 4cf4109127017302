"""Export: what a reader makes of one file, and the reason why it makes nothing of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from utils.chatlogs.message import Message

DISCORD_EPOCH_MS = 1_420_070_400_000  # an id's upper bits count the milliseconds since then
OWN_MESSAGES_ONLY = -1  # as `exported_at_ms`: any export's copy of a message is better than this one
LARGEST_ID = 2**63 - 1
LAST_MS = DISCORD_EPOCH_MS + 2**41  # an id holds no later time

# What msgspec decodes: a number out of these bounds makes its message one that can't be used.
Id = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counted(Struct, gc=False):
    """An attachment, sticker, embed or the like: only its being there matters."""


class Reaction(Struct, gc=False):
    count: Count = 1


class NotAnExport(Exception):
    """The file can't be used; the text says why in a few words, without the path."""


@dataclass(frozen=True)
class ChannelInfo:
    """`name` is a thread's title where `is_thread`. Direct messages have the guild id 0."""

    id: int
    name: str = ""
    guild_id: int = 0
    guild_name: str = ""
    is_thread: bool = False


@dataclass
class Export:
    """The messages of one file, in the file's order, and what was wrong with it.

    `exported_at_ms` is UTC, in milliseconds, 0 where the file doesn't say; of two exports the newer one is right. A
    data package has OWN_MESSAGES_ONLY there: it lacks what an export says of a message.
    """

    channel: ChannelInfo
    messages: Sequence[Message]
    exported_at_ms: int = 0
    warnings: list[str] = field(default_factory=list)


def unix_ms(moment: datetime) -> int:
    """Milliseconds since 1970, UTC; a moment without an offset is UTC, and an absurd one the nearest that isn't."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    found = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
    return found if 0 <= found < LAST_MS else 0 if found < 0 else LAST_MS


def is_id(text: str) -> bool:
    """Whether the text is a Discord id: digits alone, and no more than 64 bits hold."""
    return text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= LARGEST_ID
