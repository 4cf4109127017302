"""Messages in the shape of Discord's own API -> Exports: the JSON arrays that bots and Discrub write."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import msgspec

from utils.chatlogs.message import Message
from utils.chatlogs.sources import salvage
from utils.chatlogs.sources.export import ChannelInfo, Counted, Export, Id, NotAnExport, Reaction, unix_ms

CHAT_TYPES = frozenset([0, 19])  # DEFAULT and REPLY
REPLY = 19
FORWARD_REFERENCE = 1


class _Author(msgspec.Struct, gc=False):
    id: Id
    username: str = ""
    global_name: str | None = None
    bot: bool = False


class _Reference(msgspec.Struct, gc=False):
    message_id: Id | None = None
    type: int | None = None


class _Message(msgspec.Struct, gc=False):
    id: Id
    timestamp: datetime
    author: _Author
    channel_id: Id = 0
    type: int = 0
    content: str | None = ""
    webhook_id: Id | None = None
    attachments: tuple[Counted, ...] = ()
    sticker_items: tuple[Counted, ...] = ()
    embeds: tuple[Counted, ...] = ()
    message_snapshots: tuple[Counted, ...] = ()
    reactions: tuple[Reaction, ...] = ()
    mentions: tuple[_Author, ...] = ()
    message_reference: _Reference | None = None
    interaction: Counted | None = None


_decoder = msgspec.json.Decoder(list[_Message], strict=False)  # not strict: ids are strings in the file


def read(data: bytes) -> list[Export]:
    """One export for each channel of the array. Raises NotAnExport where no item is a message."""
    warnings: list[str] = []
    try:
        messages = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        messages, warnings = _salvage(data)
    if not messages:
        raise NotAnExport("is a JSON array, but none of its items is a message")
    by_channel: dict[int, list[Message]] = defaultdict(list)
    for message in messages:
        by_channel[message.channel_id].append(_to_message(message))
    exports = [Export(ChannelInfo(channel_id), found) for channel_id, found in sorted(by_channel.items())]
    exports[0].warnings += warnings
    return exports


def _salvage(data: bytes) -> tuple[list[_Message], list[str]]:
    text = data.decode("utf-8", "surrogateescape")
    items, _, problems = salvage.decode_items(text, text.index("[") + 1)
    messages = []
    for item in items:
        try:
            messages.append(msgspec.convert(item, _Message, strict=False))
        except (msgspec.ValidationError, OverflowError):
            continue
    if len(messages) < len(items):
        problems.append(f"has {len(items) - len(messages)} items that are no message; they are left out")
    return messages, problems


def _to_message(m: _Message) -> Message:
    reference = m.message_reference
    return Message(
        id=m.id,
        channel_id=m.channel_id,
        unix_ms=unix_ms(m.timestamp),
        author_id=m.author.id,
        author_name=m.author.username,
        content=m.content or "",
        author_nickname=m.author.global_name or "",
        is_bot=m.author.bot or m.webhook_id is not None or m.interaction is not None,
        is_system=m.type not in CHAT_TYPES,
        is_forward=bool(m.message_snapshots) or (reference is not None and reference.type == FORWARD_REFERENCE),
        reply_to=reference.message_id if reference is not None and m.type == REPLY else None,
        mentions=tuple(user.id for user in m.mentions),
        attachments=len(m.attachments) + len(m.sticker_items) + len(m.embeds),
        reactions=sum(reaction.count for reaction in m.reactions),
    )
