"""Where only the persona's own messages are known: each answers the one before it in the same burst.

Such records teach how somebody goes on, in which tone, and how they spell. They teach nothing about answering.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.conversations import Exchange


def build(messages: Sequence[Message], burst_gap_seconds: float) -> list[Exchange]:
    """One exchange for each message that follows another within the gap. Their confidence is 0: nobody was answered."""
    exchanges: list[Exchange] = []
    name, turn = "", 0
    for before, message in pairwise(messages):
        if message.unix_ms - before.unix_ms > burst_gap_seconds * 1000:
            name = ""
            continue
        if not name:
            name, turn = f"{before.channel_id}/{before.id}", 0
        exchanges.append(Exchange(name, turn, (before,), (message,), (), (), 0.0))
        turn += 1
    return exchanges


def no_prompts(persona_name: str) -> str:
    return (
        f"only {persona_name}'s own messages are here, as in every data package, so there are no prompts: nothing says "
        "what they answer; export the channels with DiscordChatExporter and put both into SOURCE, or pass "
        "--continuations for records in which each message continues the one before it"
    )


def warnings(persona_name: str, channels: int, continued: int) -> list[str]:
    """What `channels` where nobody else speaks are worth; `continued` records were made of them."""
    if continued:
        return [
            f"{continued} records only continue {persona_name}'s own message before (confidence 0): they teach tone "
            "and spelling, not what to answer; channel exports are worth far more"
        ]
    if channels:
        return [
            f"in {channels} channels only {persona_name}'s own messages are here, and nothing that they answer; export "
            "these channels, too, or pass --continuations"
        ]
    return []
