"""Annotated channels for `fit_pairing.py`: an export's parts, and variants with fewer mentions or conversations."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import msgspec

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.channel_view import ChannelView

REPLIES_KEPT = 0.5
QUIET_CONVERSATIONS = (1, 3)  # at once, in channels thinned out of the busy one
HELD_OUT_EVERY = 4


def read_parts(folder: Path) -> list[list[Message]]:
    """Every part of a DiscordChatExporter export, in the order of its first id."""
    parts = [read_part(path) for path in folder.glob("*.json")]
    return sorted(parts, key=lambda part: part[0].id)


def read_part(path: Path) -> list[Message]:
    document = json.loads(path.read_text(encoding="utf-8"))
    channel = int(document["channel"]["id"])
    return sorted((as_message(row, channel) for row in document["messages"]), key=lambda m: m.id)


def as_message(row: dict, channel: int) -> Message:
    target = row.get("reference", {}).get("messageId") if row["type"] == "Reply" else None
    return Message(
        id=int(row["id"]),
        channel_id=channel,
        unix_ms=int(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000),
        author_id=int(row["author"]["id"]),
        author_name=row["author"]["name"],
        author_nickname=row["author"].get("nickname") or "",
        content=row["content"],
        is_bot=row["author"]["isBot"],
        is_system=row["type"] not in ("Default", "Reply"),
        reply_to=int(target) if target else None,
        mentions=tuple(int(user["id"]) for user in row["mentions"]),
    )


def masked(message: Message, mentions_removed: float, replies_kept: float, dice: random.Random) -> Message:
    """The message without its mentions, and without its reply reference, each by chance."""
    if message.mentions and dice.random() < mentions_removed:
        content = re.sub(r"^(@\S+\s*)+", "", message.content) or message.content
        message = msgspec.structs.replace(message, mentions=(), content=content)
    if message.reply_to is not None and dice.random() >= replies_kept:
        message = msgspec.structs.replace(message, reply_to=None)
    return message


def thinned(part: list[Message], links: dict[int, list[int]], at_once: int) -> list[Message]:
    """A quiet channel out of a busy one: whole annotated conversations, never more than `at_once` at the same time."""
    root: dict[int, int] = {}

    def find(number: int) -> int:
        while root.setdefault(number, number) != number:
            number = root[number]
        return number

    present = {m.id for m in part}
    for message in part:
        for parent in links.get(message.id, ()):
            if parent in present:
                root[find(message.id)] = find(parent)
    conversations = defaultdict(list)
    for message in part:
        if message.id in links or message.id in root:
            conversations[find(message.id)].append(message)
    kept, ends = [], []
    for conversation in sorted(conversations.values(), key=lambda c: c[0].id):
        ends = [end for end in ends if end > conversation[0].id]
        if len(ends) < at_once:
            kept += conversation
            ends.append(conversation[-1].id)
    return sorted(kept, key=lambda m: m.id)


def read_links(path: Path) -> dict[int, list[int]]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {int(row["id"]): [int(parent) for parent in row["parents"]] for row in rows}


def views(parts: list[list[Message]], held_out: bool, shares: tuple[float, ...]) -> list[ChannelView]:
    """The fitted or the held-out parts as channels, one per share of removed mentions."""
    chosen = [part for number, part in enumerate(parts) if (number % HELD_OUT_EVERY == 0) == held_out]
    channels = defaultdict(list)
    dice = random.Random(7)
    for number, part in enumerate(chosen):
        removed = shares[number % len(shares)]
        channels[removed] += [masked(m, removed, REPLIES_KEPT, dice) for m in part]
    return [ChannelView(channel, 60) for channel in channels.values()]


def quiet_views(parts: list[list[Message]], links: dict[int, list[int]], held_out: bool) -> list[ChannelView]:
    """The same parts thinned to few conversations at once, with half of the mentions removed."""
    chosen = [part for number, part in enumerate(parts) if (number % HELD_OUT_EVERY == 0) == held_out]
    dice = random.Random(11)
    quiet = [
        [masked(m, 0.5, REPLIES_KEPT, dice) for part in chosen for m in thinned(part, links, at_once)]
        for at_once in QUIET_CONVERSATIONS
    ]
    return [ChannelView(channel, 60) for channel in quiet]
