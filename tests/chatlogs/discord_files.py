"""Invented DiscordChatExporter files for the tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2024, 5, 1, 18, 0, tzinfo=UTC)
FIRST_ID = 1_235_000_000_000_000_000
PEOPLE = {"rohan": 301313178996830219, "mags": 485768854245470220, "dale": 815542566916190223, "helperbot": 17}


def message(number: int, author: str, content: str, *, seconds: float | None = None, **keys: object) -> dict:
    """Message `number` of a channel, ten seconds after the one before unless `seconds` since START are given."""
    moment = START + timedelta(seconds=10 * number if seconds is None else seconds)
    name, _, nickname = author.partition("/")
    return {
        "id": str(FIRST_ID + number),
        "type": "Default",
        "timestamp": moment.isoformat(),
        "timestampEdited": None,
        "isPinned": False,
        "content": content,
        "author": {
            "id": str(PEOPLE.get(name, 9000 + len(name))),
            "name": name,
            "discriminator": "0000",
            "nickname": nickname or name.capitalize(),
            "color": None,
            "isBot": name.endswith("bot"),
            "roles": [],
        },
        "attachments": [],
        "embeds": [],
        "stickers": [],
        "reactions": [],
        "mentions": [],
        **keys,
    }


def reply(number: int, author: str, content: str, to: int, **keys: object) -> dict:
    reference = {"type": "Default", "messageId": str(FIRST_ID + to), "channelId": "500", "guildId": "1"}
    return message(number, author, content, type="Reply", reference=reference, **keys)


def document(messages: list[dict], channel: int = 500, **keys: object) -> dict:
    return {
        "guild": {"id": "1", "name": "Loose Screws", "iconUrl": ""},
        "channel": {"id": str(channel), "type": "GuildTextChat", "category": "Making", "name": "bench"},
        "dateRange": {"after": None, "before": None},
        "exportedAt": "2024-11-01T00:00:00+00:00",
        "messages": messages,
        "messageCount": len(messages),
        **keys,
    }


def write(path: Path, messages: list[dict], **keys: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(messages, **keys), ensure_ascii=False), encoding="utf-8")
    return path


def conversations(count: int, turns: int = 2, partner: str = "mags") -> list[dict]:
    """Separate conversations, six hours apart, in which rohan answers every message of one partner by a reply."""
    messages = []
    for day in range(count):
        for turn in range(turns):
            number, seconds = 2 * (day * turns + turn), 6 * 3600 * day + 60 * turn
            asked = f"question {day}.{turn}: which screw holds the lid of printer {day}?"
            messages.append(message(number, partner, asked, seconds=seconds))
            said = f"the long one, number {day}.{turn}, behind the fan"
            messages.append(reply(number + 1, "rohan", said, number, seconds=seconds + 20))
    return messages


def laid_together(exports: list) -> dict[int, list]:
    """Channel id -> messages in order, each from its newest export, as the store keeps them."""
    found: dict[int, dict] = {}
    for export in sorted(exports, key=lambda export: export.exported_at_ms):
        found.setdefault(export.channel.id, {}).update({message.id: message for message in export.messages})
    return {channel: [by_id[key] for key in sorted(by_id)] for channel, by_id in sorted(found.items())}
