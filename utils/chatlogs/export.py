"""Export: what a reader makes of one file, and the reason why it makes nothing of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from utils.chatlogs.message import Message

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


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

    `exported_at_ms` is UTC, in milliseconds, 0 where the file doesn't say; of two exports the newer one is right.
    """

    channel: ChannelInfo
    messages: list[Message]
    exported_at_ms: int = 0
    warnings: list[str] = field(default_factory=list)


def unix_ms(moment: datetime) -> int:
    """Milliseconds since 1970, UTC; a moment without an offset is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND
