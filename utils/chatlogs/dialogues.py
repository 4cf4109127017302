"""Ready-made examples -> replies: past the pairing, but through the same cleaning, privacy and limits as Discord."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec

from utils.chatlogs.people import Person
from utils.chatlogs.settings import PrepareSettings, default_system_prompt
from utils.chatlogs.sources.export import is_id, unix_ms
from utils.chatlogs.text import cleaning
from utils.chatlogs.text.names import Pseudonyms
from utils.chatlogs.turns import Reply
from utils.privacy import masking
from utils.records import Record

UNNAMED = "the assistant"

_CHANNEL_AND_MESSAGE = re.compile(r"[0-9]{1,20}/[0-9]{1,20}")


def persona(name: str | None, records: int) -> Person:
    """The one who speaks where there are ready-made examples alone; PERSONA is but the name."""
    return Person(0, messages=records, nicknames=Counter({name or UNNAMED: records}))


def write(
    records: Sequence[Record], persona_name: str, settings: PrepareSettings, pseudonyms: Pseudonyms | None = None
) -> tuple[list[Reply], Counter[str], Counter[str]]:
    """The replies, why the others make none, and what was masked, by kind.

    SYSTEM_PROMPT is right if set, else the example's own, else the one that names the persona, if anybody is named. An
    example without a time counts as older than every dated one, in the order of the files. With `pseudonyms` the names
    of others are replaced, line by line, since a line may start with its speaker's.
    """
    replies: list[Reply] = []
    dropped: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    named = default_system_prompt(persona_name) if persona_name != UNNAMED else ""

    def tidy(text: str) -> str:
        text = cleaning.clean(text, _nobody, _nobody)
        if pseudonyms is not None:
            text = "\n".join(map(pseudonyms.replace, text.split("\n")))
        text, found = masking.mask(text)
        masked.update(found)
        return cleaning.split_control_tokens(text).strip()

    for number, raw in enumerate(records):
        history = tuple((tidy(asked), tidy(said)) for asked, said in raw.history)
        record = Record(
            instruction=tidy(raw.instruction),
            input=tidy(raw.input),
            output=tidy(raw.output),
            system=settings.system_prompt or tidy(raw.system) or named,
            history=tuple((asked, said) for asked, said in history if asked and said),
            source=_source(raw),
        )
        reason = _reason_against(record, settings)
        if reason:
            dropped[reason] += 1
            continue
        source = record.source
        turn_ids = frozenset(map(int, (*source.instruction_ids, *source.output_ids)))
        replies.append(
            Reply(record, _moment(source.timestamp, number), turn_ids, frozenset(map(int, source.context_ids)))
        )
    return replies, dropped, masked


def _nobody(_: int) -> str:
    return ""


def _source(raw: Record) -> msgspec.Struct:
    """The example's own source, without ids that are none, and without a time that is none."""
    source = raw.source
    ids = {
        name: tuple(one for one in getattr(source, name) if is_id(one))
        for name in ("instruction_ids", "output_ids", "context_ids")
    }
    timestamp = source.timestamp if _moment(source.timestamp, -1) >= 0 else ""
    confidence = min(1.0, max(0.0, source.confidence))
    conversation = source.conversation
    if not _CHANNEL_AND_MESSAGE.fullmatch(conversation):  # a file's name, or whatever somebody wrote there
        conversation = masking.mask(conversation)[0]
    return msgspec.structs.replace(source, **ids, conversation=conversation, timestamp=timestamp, confidence=confidence)


def _moment(timestamp: str, number: int) -> int:
    try:
        return max(unix_ms(datetime.fromisoformat(timestamp)), 0)
    except (ValueError, OverflowError):
        return number


def _reason_against(record: Record, settings: PrepareSettings) -> str:
    if not record.output:
        return "reply_without_text"
    if not record.instruction and not record.input:
        return "prompt_without_text"
    if cleaning.is_only_links(record.output):
        return "reply_only_links"
    if cleaning.word_count(record.output) < settings.min_reply_words and record.output.isascii():
        return "reply_too_short"
    if len(record.output) > settings.max_reply_characters:
        return "reply_too_long"
    return "" if record.source.confidence >= settings.min_confidence else "below_min_confidence"


def warnings(records: Sequence[Record], settings: PrepareSettings) -> list[str]:
    """What NAMES and EXCLUDE_AUTHORS can't reach in examples, in words."""
    wanted = [
        *(["NAMES"] if settings.names == "pseudonyms" else []),
        *(["EXCLUDE_AUTHORS"] if settings.exclude_authors else []),
    ]
    if not (wanted and records):
        return []
    return [
        f"{' and '.join(wanted)} can't know everybody in ready-made examples: known are those who wrote in the "
        "exports, who start a line as `Name:`, or who stand after an @"
    ]
