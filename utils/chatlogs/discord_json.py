"""DiscordChatExporter's JSON -> an Export.

A whole file in good order goes through one typed msgspec decoding. Anything else (cut off, a damaged byte, an odd
message) is salvaged message by message, so that one bad spot costs what it holds and no more.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from utils.chatlogs import salvage
from utils.chatlogs.export import ChannelInfo, Export, NotAnExport, unix_ms
from utils.chatlogs.message import Message

CHAT_TYPES = frozenset(["Default", "Reply", 0, 19, "0", "19"])  # every other type is Discord speaking
REPLY_TYPES = frozenset(["Reply", 19, "19"])

_MESSAGES_KEY = re.compile(r'"messages"\s{0,20}:\s{0,20}\[')
_NEXT_MESSAGE = re.compile(r'\{\s{0,40}"id"\s{0,20}:\s{0,20}"\d{1,20}"\s{0,20},\s{0,40}"type"\s{0,20}:')


class _Counted(msgspec.Struct, gc=False):
    """An attachment, sticker or embed: only its being there matters."""


class _User(msgspec.Struct, gc=False):
    id: int


class _Author(msgspec.Struct, gc=False):
    id: int
    name: str = ""
    nickname: str | None = None
    isBot: bool = False


class _Reaction(msgspec.Struct, gc=False):
    count: int = 1


class _Reference(msgspec.Struct, gc=False):
    messageId: int | None = None
    type: str | int | None = None


class _Message(msgspec.Struct, gc=False):
    id: int
    timestamp: datetime
    author: _Author
    type: str | int = "Default"
    content: str | None = ""
    attachments: tuple[_Counted, ...] = ()
    stickers: tuple[_Counted, ...] = ()
    embeds: tuple[_Counted, ...] = ()
    reactions: tuple[_Reaction, ...] = ()
    mentions: tuple[_User, ...] = ()
    reference: _Reference | None = None
    forwardedMessage: _Counted | None = None
    interaction: _Counted | None = None


class _Channel(msgspec.Struct):
    id: int
    type: str | int = ""
    name: str | None = None


class _Guild(msgspec.Struct):
    id: int = 0
    name: str | None = None


class _Document(msgspec.Struct):
    channel: _Channel
    messages: list[_Message]
    guild: _Guild = msgspec.field(default_factory=_Guild)
    exportedAt: datetime | None = None
    messageCount: int | None = None


# Not strict: ids are strings in the file, and msgspec reads them as integers without a detour over floats.
_decoder = msgspec.json.Decoder(_Document, strict=False)


def read(data: bytes) -> Export:
    """Raises NotAnExport where the file holds no channel or no array of messages."""
    warnings: list[str] = []
    try:
        document = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document, warnings = _salvage(data)
    count = document.messageCount
    if count is not None and count != len(document.messages):
        warnings.append(f"says that it holds {count} messages, but holds {len(document.messages)}")
    return _to_export(document, warnings)


# A file in good order ------------------------------------------------------------------------------------------------


def _to_export(document: _Document, warnings: list[str]) -> Export:
    channel = ChannelInfo(
        id=document.channel.id,
        name=document.channel.name or "",
        guild_id=document.guild.id,
        guild_name=document.guild.name or "",
        is_thread="Thread" in str(document.channel.type) or document.channel.type in (10, 11, 12),
    )
    people: dict[tuple[int, str, str | None], tuple[int, str, str]] = {}  # one copy of each name, not one a message
    messages = [_to_message(message, channel.id, people) for message in document.messages]
    exported_at_ms = unix_ms(document.exportedAt) if document.exportedAt else 0
    return Export(channel, messages, exported_at_ms, warnings)


def _to_message(
    m: _Message, channel_id: int, people: dict[tuple[int, str, str | None], tuple[int, str, str]]
) -> Message:
    author = m.author
    key = (author.id, author.name, author.nickname)
    person = people.get(key)
    if person is None:
        person = people[key] = (author.id, author.name, author.nickname or "")
    author_id, name, nickname = person
    return Message(
        m.id,
        channel_id,
        unix_ms(m.timestamp),
        author_id,
        name,
        m.content or "",
        nickname,
        author.isBot or m.interaction is not None,
        m.type not in CHAT_TYPES,
        m.forwardedMessage is not None or (m.reference is not None and m.reference.type in ("Forward", 1)),
        m.reference.messageId if m.reference is not None and m.type in REPLY_TYPES else None,
        tuple([user.id for user in m.mentions]) if m.mentions else (),
        len(m.attachments) + len(m.stickers) + len(m.embeds),
        sum([reaction.count for reaction in m.reactions]) if m.reactions else 0,
    )


# A damaged file ------------------------------------------------------------------------------------------------------


def _salvage(data: bytes) -> tuple[_Document, list[str]]:
    """Every complete message of a file that doesn't decode as a whole, and what was lost where."""
    text = data.decode("utf-8", "surrogateescape")  # keeps byte offsets exact
    opening = _MESSAGES_KEY.search(text)
    if opening is None:
        raise NotAnExport(_why_not(data))
    header = salvage.decode_object(text[: opening.end()] + "]}")
    try:
        document = msgspec.convert({**header, "messages": []}, _Document, strict=False)
    except (msgspec.ValidationError, TypeError):
        raise NotAnExport("has no channel before its messages, so it is no DiscordChatExporter file") from None
    items, end, problems = salvage.decode_items(text, opening.end(), _NEXT_MESSAGE)
    unusable = 0
    for item in items:
        try:
            document.messages.append(msgspec.convert(item, _Message, strict=False))
        except (msgspec.ValidationError, OverflowError):
            unusable += 1
    if unusable:
        problems.append(f"has {unusable} messages without a usable id, author or timestamp; they are left out")
    tail = re.search(r'"messageCount"\s{0,20}:\s{0,20}(\d{1,12})', text[end:])
    document.messageCount = int(tail[1]) if tail else None
    return document, problems


def _why_not(data: bytes) -> str:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"is not valid JSON ({str(error).rstrip('.')})"
    return "is JSON, but no DiscordChatExporter file"
