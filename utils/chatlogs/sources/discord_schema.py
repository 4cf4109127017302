"""What this project reads of DiscordChatExporter's JSON, in the names of that format."""

from __future__ import annotations

from datetime import datetime

import msgspec

from utils.chatlogs.sources.export import Counted, Id, Reaction


class User(msgspec.Struct, gc=False):
    id: Id


class Author(msgspec.Struct, gc=False):
    id: Id
    name: str = ""
    nickname: str | None = None
    isBot: bool = False


class Reference(msgspec.Struct, gc=False):
    messageId: Id | None = None
    type: str | int | None = None


class ExportedMessage(msgspec.Struct, gc=False):
    id: Id
    timestamp: datetime
    author: Author
    type: str | int = "Default"
    content: str | None = ""
    attachments: tuple[Counted, ...] = ()
    stickers: tuple[Counted, ...] = ()
    embeds: tuple[Counted, ...] = ()
    reactions: tuple[Reaction, ...] = ()
    mentions: tuple[User, ...] = ()
    reference: Reference | None = None
    forwardedMessage: Counted | None = None
    interaction: Counted | None = None


class Channel(msgspec.Struct):
    id: Id
    type: str | int = ""
    name: str | None = None


class Guild(msgspec.Struct):
    id: Id = 0
    name: str | None = None


class Document(msgspec.Struct):
    channel: Channel
    messages: list[ExportedMessage]
    guild: Guild = msgspec.field(default_factory=Guild)
    exportedAt: datetime | None = None
    messageCount: int | None = None
