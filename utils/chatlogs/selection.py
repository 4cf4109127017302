"""Which messages take part: commands and empty messages go before anybody is asked who answers whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from utils.chatlogs.message import Message

BOT_ANSWERS_WITHIN_MS = 15_000
MESSAGES_BEFORE = 500  # of a message of the persona, so many before it and after it can say what it answers
MESSAGES_AFTER = 60

# `!play` and `/roll` are commands; `/etc/fstab` and `/shrug` with more text around are not.
_COMMAND = re.compile(r"\s{0,3}[!/][a-z][a-z_-]{1,30}(?=\s|\Z)", re.IGNORECASE)
# `?rank`, `.ping`, `p!catch` are commands where a bot answers at once.
_LIKE_A_COMMAND = re.compile(r"\s{0,3}(?:[a-z]{1,3}!|[$%&;.?+>~=-]{1,2})[a-z][a-z_-]{1,30}(?=\s|\Z)", re.IGNORECASE)


@dataclass
class Counts:
    """Every message by what became of it, and the same for the persona's own."""

    everybody: Counter[str] = field(default_factory=Counter)
    persona: Counter[str] = field(default_factory=Counter)


def select(messages: Sequence[Message], persona_id: int, counts: Counts) -> list[Message]:
    """The messages of a channel around the persona's own, and what those reply to, without commands and empty ones.

    Bots, forwards and system messages stay as witnesses of who answers whom: pairing never takes them for a turn.
    """
    kept: list[Message] = []
    everybody: Counter[str] = Counter()
    for index, message in enumerate(messages):
        kind = _kind(message, messages, index)
        everybody[kind] += 1
        if message.author_id == persona_id:
            counts.persona[kind] += 1
        if kind not in ("command", "empty"):
            kept.append(message)
    counts.everybody.update(everybody)
    return _around(kept, persona_id)


def _around(messages: list[Message], persona_id: int) -> list[Message]:
    """The stretches where the persona takes part: in a large channel pairing need not look at the rest."""
    near = bytearray(len(messages))
    index_of = {message.id: index for index, message in enumerate(messages)}
    for index, message in enumerate(messages):
        if message.author_id != persona_id or message.is_system:
            continue
        start, end = max(0, index - MESSAGES_BEFORE), min(len(messages), index + MESSAGES_AFTER + 1)
        near[start:end] = b"\1" * (end - start)
        if message.reply_to in index_of:
            near[index_of[message.reply_to]] = 1
    return list(compress(messages, near))


def _kind(message: Message, messages: Sequence[Message], index: int) -> str:
    if message.is_system:
        return "system"
    if message.is_bot:
        return "bot"
    if message.is_forward:
        return "forward"
    content = message.content
    if not content or content.isspace():
        return "file_or_sticker_only" if message.attachments else "empty"
    if content[0].isalnum() and "!" not in content[:4]:
        return "chat"
    if _COMMAND.match(content) or (_LIKE_A_COMMAND.match(content) and _bot_follows(messages, index)):
        return "command"
    return "chat"


def _bot_follows(messages: Sequence[Message], index: int) -> bool:
    sent = messages[index].unix_ms
    following = messages[index + 1 : index + 4]
    return any(message.is_bot and message.unix_ms - sent <= BOT_ANSWERS_WITHIN_MS for message in following)
