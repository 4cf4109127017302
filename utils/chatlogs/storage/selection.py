"""Which messages take part: commands and empty messages go before anybody is asked who answers whom.

The text of a message says what it may be (`forms`, once, when it enters the store); what it is depends on its
neighbours, too (`SQL_KIND`, over a whole channel).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BOT_ANSWERS_WITHIN_MS = 15_000
MESSAGES_BEFORE = 500  # of a message of the persona, so many before it and after it can say what it answers
MESSAGES_AFTER = 60
PIECE_MESSAGES = 30_000  # a channel with more messages around the persona is paired in pieces of about this size

# `!play`, `!8ball`, `!grub2 | ann` and `/roll` are commands; `/etc/fstab` and `!!` are not.
_COMMAND = re.compile(
    r"\s{0,3}(?:!(?=\d{0,4}[a-z])[a-z0-9][a-z0-9_+.-]{0,30}|/[a-z][a-z_-]{1,30})(?=\s|\Z)", re.IGNORECASE
)
# `?rank`, `.ping`, `p!catch` are commands where a bot answers at once.
_LIKE_A_COMMAND = re.compile(r"\s{0,3}(?:[a-z]{1,3}!|[$%&;.?+>~=-]{1,2})[a-z][a-z_-]{1,30}(?=\s|\Z)", re.IGNORECASE)

# The kind of every message, over a window `channel` of its channel's messages in order. Bots, system texts, forwards
# and the gaps that forgotten messages leave stay as witnesses of who answers whom: pairing never takes them for a turn.
_A_BOT_FOLLOWS = " OR ".join(
    f"(lead(is_bot, {ahead}) OVER channel AND lead(unix_ms, {ahead}) OVER channel <= unix_ms + {BOT_ANSWERS_WITHIN_MS})"
    for ahead in (1, 2, 3)
)
SQL_KIND = f"""
    CASE
        WHEN form = 'forgotten' THEN 'forgotten'
        WHEN is_system THEN 'system'
        WHEN is_bot THEN 'bot'
        WHEN is_forward THEN 'forward'
        WHEN form <> 'like_command' THEN form
        WHEN {_A_BOT_FOLLOWS} THEN 'command'
        ELSE 'chat'
    END
"""


@dataclass
class Counts:
    """Every message by what became of it, and the same for the persona's own."""

    everybody: Counter[str] = field(default_factory=Counter)
    persona: Counter[str] = field(default_factory=Counter)


def forms(contents: Iterable[str], attachments: Iterable[int]) -> list[str]:
    """Of each message: chat, empty, file_or_sticker_only, command, or like_command: a command if a bot answers at once.

    Nearly all start with a mention, or with a letter and no `p!`: those are seen at once.
    """
    return [
        "chat" if content[:1] == "@" or (content[:1].isalnum() and "!" not in content[:4]) else _form(content, files)
        for content, files in zip(contents, attachments, strict=True)
    ]


def _form(content: str, attachments: int) -> str:
    if not content or content.isspace():
        return "file_or_sticker_only" if attachments else "empty"
    if _COMMAND.match(content):
        return "command"
    return "like_command" if _LIKE_A_COMMAND.match(content) else "chat"


def stretches(places: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The places (first, last) around the persona's own, which come in order. Overlapping stretches are one, but for
    one of PIECE_MESSAGES, which ends where the persona is silent for a while."""
    first = last = None
    for place in places:
        if last is None:
            first = place - MESSAGES_BEFORE
        elif place - MESSAGES_BEFORE > last + 1 or (place > last and last - first >= PIECE_MESSAGES):
            yield first, last
            first = max(place - MESSAGES_BEFORE, last + 1)
        last = place + MESSAGES_AFTER
    if last is not None:
        yield first, last


def pieces(found: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The stretches of a channel in groups of PIECE_MESSAGES or little more."""
    piece: list[tuple[int, int]] = []
    size = 0
    for first, last in found:
        piece.append((first, last))
        size += last - first + 1
        if size >= PIECE_MESSAGES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
