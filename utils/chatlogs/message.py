"""Message: what every reader yields, whatever the export looked like."""

from __future__ import annotations

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
