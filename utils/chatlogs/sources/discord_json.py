"""DiscordChatExporter's JSON -> an Export.

A whole file in good order goes through one typed msgspec decoding. Anything else (cut off, a damaged byte, an odd
message) is salvaged message by message, so that one bad spot costs what it holds and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from utils.chatlogs.message import MessageColumns
from utils.chatlogs.sources import salvage
from utils.chatlogs.sources.discord_schema import Document, ExportedMessage, Reference
from utils.chatlogs.sources.export import ChannelInfo, Export, NotAnExport, unix_ms
from utils.chatlogs.sources.source_files import as_utf_8

PART_BYTES = 8 << 20
HEADER_BYTES = 1 << 20  # the channel's description and its messages' start stand within so much
BOUNDARY_BYTES = 1 << 18

CHAT_TYPES = frozenset(["Default", "Reply", 0, 19, "0", "19"])  # every other type is Discord speaking
REPLY_TYPES = frozenset(["Reply", 19, "19"])
FORWARD_TYPES = frozenset(["Forward", 1])  # of a reference

_MESSAGES_KEY = re.compile(r'"messages"\s{0,20}:\s{0,20}\[')
# The quotes inside a string stand behind backslashes, so no chat text looks like the start of a message.
_MESSAGES_KEY_BYTES = re.compile(_MESSAGES_KEY.pattern.encode())
_MESSAGE_START = re.compile(
    rb'(?<=[,\s])\{\s{0,40}"id"\s{0,20}:\s{0,20}"[0-9]{1,20}"\s{0,20},\s{0,40}"type"\s{0,20}:[^,]{1,80},\s{0,40}"timestamp"'
)
_NEXT_MESSAGE = re.compile(r'\{\s{0,40}"id"\s{0,20}:\s{0,20}"\d{1,20}"\s{0,20},\s{0,40}"type"\s{0,20}:')


# Not strict: ids are strings in the file, and msgspec reads them as integers without a detour over floats.
_decoder = msgspec.json.Decoder(Document, strict=False)
_NO_REFERENCE = Reference()


def read(data: bytes) -> Export:
    """Raises NotAnExport where the file holds no channel or no array of messages."""
    document, warnings = _decode(data)
    count = document.messageCount
    if count is not None and count != len(document.messages):
        warnings.append(f"says that it holds {count} messages, but holds {len(document.messages)}")
    return _to_export(document, warnings)


def read_parts(file: BinaryIO) -> Iterator[Export]:
    """The same for a file of any size, in parts of some PART_BYTES: memory stays constant.

    UTF-16, and a file whose channel stands behind its messages, are read whole. Raises NotAnExport as `read` does.
    """
    first = min(HEADER_BYTES, PART_BYTES)  # room for a whole part costs more than reading a file that is shorter
    start = file.read(first)
    if len(start) == first:
        start += file.read(PART_BYTES - first)
    data = as_utf_8(start)
    opening = _MESSAGES_KEY_BYTES.search(data, 0, HEADER_BYTES)
    if len(start) < PART_BYTES or len(data) < PART_BYTES - 3 or opening is None:
        yield read(as_utf_8(start + file.read()))
        return
    header, data = data[: opening.end()], data[opening.end() :]
    if "channel" not in salvage.decode_object(header.decode("utf-8", "replace") + "]}"):
        yield read(header + data + file.read())
        return
    offset = len(start) - len(data)  # where `data` starts in the file
    found, problems = 0, []
    while True:
        more = file.read(PART_BYTES if len(data) < 4 * PART_BYTES else -1)  # no boundary for so long: all the rest
        if len(more) > PART_BYTES:
            data, more = data + more, b""
        cut = _last_boundary(data) if more else len(data)
        if cut:
            part = data[:cut] if not more else data[:cut].rstrip(b", \t\r\n") + b"]}"
            place = salvage.Place(offset - len(header), found, is_last=not more)
            document, met = _decode(header + part, place)
            found += len(document.messages)
            problems += met
            if not more:
                break
            yield _to_export(document, [])
        offset += cut
        data = data[cut:] + more
    count = document.messageCount
    if count is not None and count != found:
        problems.append(f"says that it holds {count} messages, but holds {found}")
    yield _to_export(document, list(dict.fromkeys(problems)))


def _last_boundary(data: bytes) -> int:
    """Where the last message that starts in these bytes starts; 0 without one."""
    for start in (max(0, len(data) - BOUNDARY_BYTES), 0):
        starts = [match.start() for match in _MESSAGE_START.finditer(data, start)]
        if starts:
            return starts[-1]
    return 0


def _decode(data: bytes, place: salvage.Place | None = None) -> tuple[Document, list[str]]:
    try:
        return _decoder.decode(data), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _salvage(data, place)


# A file in good order ------------------------------------------------------------------------------------------------


def _to_export(document: Document, warnings: list[str]) -> Export:
    channel = ChannelInfo(
        id=document.channel.id,
        name=document.channel.name or "",
        guild_id=document.guild.id,
        guild_name=document.guild.name or "",
        is_thread="Thread" in str(document.channel.type) or document.channel.type in (10, 11, 12),
    )
    exported_at_ms = unix_ms(document.exportedAt) if document.exportedAt else 0
    return Export(channel, _to_columns(document.messages, channel.id), exported_at_ms, warnings)


def _to_columns(messages: list[ExportedMessage], channel_id: int) -> MessageColumns:
    authors = [m.author for m in messages]
    references = [m.reference or _NO_REFERENCE for m in messages]
    return MessageColumns(
        id=[m.id for m in messages],
        channel_id=[channel_id] * len(messages),
        unix_ms=[unix_ms(m.timestamp) for m in messages],
        author_id=[author.id for author in authors],
        author_name=[author.name for author in authors],
        content=[m.content or "" for m in messages],
        author_nickname=[author.nickname or "" for author in authors],
        is_bot=[m.author.isBot or m.interaction is not None for m in messages],
        is_system=[m.type not in CHAT_TYPES for m in messages],
        is_forward=[
            m.forwardedMessage is not None or reference.type in FORWARD_TYPES
            for m, reference in zip(messages, references, strict=True)
        ],
        reply_to=[
            reference.messageId if m.type in REPLY_TYPES else None
            for m, reference in zip(messages, references, strict=True)
        ],
        mentions=[tuple([user.id for user in m.mentions]) if m.mentions else () for m in messages],
        attachments=[len(m.attachments) + len(m.stickers) + len(m.embeds) for m in messages],
        reactions=[sum([reaction.count for reaction in m.reactions]) if m.reactions else 0 for m in messages],
    )


# A damaged file ------------------------------------------------------------------------------------------------------


def _salvage(data: bytes, place: salvage.Place | None = None) -> tuple[Document, list[str]]:
    """Every complete message of a file that doesn't decode as a whole, and what was lost where."""
    text = data.decode("utf-8", "surrogateescape")  # keeps byte offsets exact
    opening = _MESSAGES_KEY.search(text)
    if opening is None:
        raise NotAnExport(_why_not(data))
    header = salvage.decode_object(text[: opening.end()] + "]}")
    try:
        document = msgspec.convert({**header, "messages": []}, Document, strict=False)
    except (msgspec.ValidationError, TypeError):
        raise NotAnExport("has no channel before its messages, so it is no DiscordChatExporter file") from None
    items, end, problems = salvage.decode_items(text, opening.end(), _NEXT_MESSAGE, place)
    unusable = 0
    for item in items:
        try:
            document.messages.append(msgspec.convert(item, ExportedMessage, strict=False))
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
