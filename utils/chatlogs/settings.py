"""The schema of a prepare run: every setting with its unit, bounds and default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class PrepareSettings:
    """What to read, whose replies to learn, what counts as a reply, and where the records go."""

    source: Annotated[Path, Meta(description="An export, or a folder of exports (searched with its subfolders).")] = (
        Path("data/raw")
    )
    persona: Annotated[str | None, Meta(description="Who the model learns to answer like: a user id or a name.")] = None
    output_dir: Annotated[Path, Meta(description="Where the records and report.json go.")] = Path("data/processed")
    system_prompt: Annotated[
        str | None, Meta(description="The system prompt of every record; none makes one that names the persona.")
    ] = None
    exclude_authors: Annotated[
        tuple[str, ...], Meta(description="Ids or names of people whose words appear nowhere in the records.")
    ] = ()

    max_history_turns: Annotated[
        int, Meta(description="Earlier turns that a record carries, at most.", ge=0, le=100)
    ] = 8
    session_gap_minutes: Annotated[
        float, Meta(description="Silence, in minutes, after which a channel's conversation is over.", gt=0)
    ] = 60.0
    burst_gap_seconds: Annotated[
        float, Meta(description="The persona's messages this close, in seconds, are one reply.", ge=0)
    ] = 180.0
    min_confidence: Annotated[
        float, Meta(description="Replies whose prompt is less sure than this, 0 to 1, are left out.", ge=0, le=1)
    ] = 0.5
    min_reply_words: Annotated[int, Meta(description="Shorter replies, in words, are left out.", ge=1)] = 1
    max_reply_characters: Annotated[int, Meta(description="Longer replies, in characters, are left out.", ge=1)] = 2000
    min_reactions: Annotated[
        int, Meta(description="Replies with fewer reactions, over all their messages, are left out.", ge=0)
    ] = 0
    max_same_reply: Annotated[
        int, Meta(description="Of replies with the same words so many are kept, at most, spread over the time.", ge=1)
    ] = 20

    validation_share: Annotated[
        float, Meta(description="Share of the records, 0 to 0.4, kept to watch the training.", gt=0, le=0.4)
    ] = 0.05
    test_share: Annotated[
        float, Meta(description="Share of the records, 0 to 0.4, kept for the final test; the newest.", gt=0, le=0.4)
    ] = 0.05
    dry_run: Annotated[bool, Meta(description="Show the counts and the samples, write nothing.")] = False


def default_system_prompt(persona_name: str) -> str:
    return f"You are {persona_name}, chatting on Discord. Answer the way {persona_name} writes."
