"""The schema of a prepare run: every setting with its unit, bounds and default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True)
class PrepareSettings:
    """What to read, whose replies to learn, what counts as a reply, and where the records go."""

    source: Annotated[
        tuple[Path, ...],
        Meta(description="Exports, zips, data packages or example files, or folders of them; one path or several."),
    ] = (Path("data/raw"),)
    persona: Annotated[str | None, Meta(description="Who the model learns to answer like: a user id or a name.")] = None
    output_dir: Annotated[Path, Meta(description="Where the records and report.json go.")] = Path("data/processed")
    store: Annotated[
        Path | None, Meta(description="The DuckDB file that holds the messages; none makes it beside OUTPUT_DIR.")
    ] = None
    forget: Annotated[
        tuple[str, ...],
        Meta(description="Ids of people or messages to remove from the store and the prepared files, for good."),
    ] = ()
    system_prompt: Annotated[
        str | None, Meta(description="The system prompt of every record; none makes one that names the persona.")
    ] = None
    exclude_authors: Annotated[
        tuple[str, ...], Meta(description="Ids or names of people whose words appear nowhere in the records.")
    ] = ()
    names: Annotated[
        Literal["keep", "pseudonyms"],
        Meta(description="Other people's names: as they are, or an invented one for each, the same throughout."),
    ] = "keep"

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
    continuations: Annotated[
        bool,
        Meta(description="Of a data package that no export goes with, make records that continue one's own message."),
    ] = False
    min_reply_words: Annotated[int, Meta(description="Shorter replies, in words, are left out.", ge=1)] = 1
    max_reply_characters: Annotated[int, Meta(description="Longer replies, in characters, are left out.", ge=1)] = 2000
    min_reactions: Annotated[
        int, Meta(description="Replies with fewer reactions, over all their messages, are left out.", ge=0)
    ] = 0
    max_same_reply: Annotated[
        int, Meta(description="Of replies with the same words so many are kept, at most, spread over the time.", ge=1)
    ] = 20
    drop_near_duplicates: Annotated[
        bool, Meta(description="Of longer replies that say nearly the same (8 words and more), the first is kept.")
    ] = True
    languages: Annotated[
        tuple[str, ...], Meta(description="Languages of the conversations to keep (en, de, ...); none keeps all.")
    ] = ()
    max_records: Annotated[
        Annotated[int, Meta(ge=3)] | None, Meta(description="Records at most, the newest; none keeps all.")
    ] = None

    validation_share: Annotated[
        float, Meta(description="Share of the records, 0 to 0.4, kept to watch the training.", gt=0, le=0.4)
    ] = 0.05
    test_share: Annotated[
        Annotated[float, Meta(gt=0, le=0.4)] | None,
        Meta(
            description="Share of the records, 0 to 0.4, kept for the final test; the newest. None: a tenth, or up to a"
            " quarter where the test's verdict takes it."
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Show the counts and the samples, write nothing.")] = False


def default_system_prompt(persona_name: str) -> str:
    return f"You are {persona_name}, chatting on Discord. Answer the way {persona_name} writes."
