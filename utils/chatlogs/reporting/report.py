"""What went in, what was dropped and why, what came out: for the terminal and, without any text, for report.json."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from utils import console
from utils.chatlogs.people import Person
from utils.chatlogs.quality.split import Split
from utils.chatlogs.replies import Harvest
from utils.chatlogs.reporting.activity import FIRST_DATE_MS
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.sources.readers import Reading
from utils.chatlogs.sources.source_files import as_text
from utils.chatlogs.storage.store import Contents
from utils.records import ENOUGH_CONVERSATIONS, Record
from utils.settings import to_dict

REASONS = {
    "bot": "written by bots",
    "system": "written by Discord (joins, pins, ...)",
    "forward": "forwarded",
    "forgotten": "forgotten on request",
    "command": "commands to bots",
    "empty": "empty",
    "file_or_sticker_only": "files or stickers without text",
    "opening": "open a conversation",
    "continuation": "only continue an own message",
    "answers_bot": "answer a bot, a system text or a forward",
    "below_min_confidence": "doubtful what they answer",
    "excluded_author": "answer, or come from, an excluded author",
    "reply_without_text": "no text left in the reply",
    "reply_only_links": "only a link",
    "reply_too_short": "too short",
    "reply_too_long": "too long",
    "too_few_reactions": "too few reactions",
    "repeated_reply": "said again and again",
    "near_duplicate": "nearly the same as an earlier one",
    "other_language": "in another language",
    "over_max_records": "older than the newest MAX_RECORDS",
    "prompt_without_text": "no text left in the prompt",
    "neighbour": "share a message with a held-out set",
    "held_out_copy": "held out, but nearly the same in training",
}


def build(
    reading: Reading,
    contents: Contents,
    persona: Person,
    harvest: Harvest,
    split: Split,
    files: Mapping[str, bytes],
    settings: PrepareSettings,
) -> dict[str, Any]:
    """The report as JSON values; the same input and settings give the same report, to the byte."""
    dropped = harvest.dropped + Counter(neighbour=split.neighbours, held_out_copy=split.copies)
    own = harvest.counts.persona
    return {
        "persona": {"id": str(persona.id), "name": persona.name, "names": persona.names},
        "read": {
            "files": reading.files,
            "examples": len(reading.records),
            "skipped_files": [{"file": as_text(path.name), "reason": reason} for path, reason in reading.skipped],
            "channels": contents.channels,
            "messages": contents.messages,
            "copies_left_out": contents.copies,
            **_date_range([contents.first_ms, contents.last_ms]),
        },
        "messages": _by_size(harvest.counts.everybody),
        "persona_messages": {"total": persona.messages, "left_out": _by_size({**own, "chat": 0})},
        "replies": {
            "total": harvest.exchanges,
            "left_out": _by_size(dropped),
            "records": sum(map(len, split.sets.values())),
        },
        "masked": _by_size(harvest.masked),
        "sets": {
            name: {
                "records": len(replies),
                "conversations": len({reply.record.source.conversation for reply in replies}),
                **_date_range(reply.unix_ms for reply in replies),
                "sha256": hashlib.sha256(files[f"{name}.jsonl"]).hexdigest(),
            }
            for name, replies in split.sets.items()
        },
        "warnings": reading.warnings + harvest.warnings,
        "settings": to_dict(settings),
    }


def encode(report: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def show(report: Mapping[str, Any], split: Split) -> None:
    """The funnel, the sets and three sample records."""
    console.heading("What was kept, and what was dropped")
    read, own, replies = report["read"], report["persona_messages"], report["replies"]
    name = report["persona"]["name"]
    rows = [("messages in " + _counted(read["channels"], "channel"), f"{read['messages']:,}")]
    rows += _drops(report["messages"])
    rows += [(f"messages of {name}", f"{own['total']:,}"), *_drops(own["left_out"])]
    rows += [(f"replies of {name} (a burst is one)", f"{replies['total']:,}"), *_drops(replies["left_out"])]
    rows += [("records", f"{replies['records']:,}")]
    console.table(["", "count"], rows, numeric=[1])
    if report["masked"]:
        console.say()
        console.say("masked: " + ", ".join(f"{kind} {count:,}" for kind, count in report["masked"].items()))
    console.heading("Sets")
    console.table(
        ["set", "records", "conversations", "from", "to"],
        [
            (name, f"{entry['records']:,}", f"{entry['conversations']:,}", entry["first"][:10], entry["last"][:10])
            for name, entry in report["sets"].items()
        ],
        numeric=[1, 2],
    )
    _show_too_few(report["sets"])
    train = split.train
    console.heading("Three records of the training set")
    for index in sorted({len(train) // 4, len(train) // 2, 3 * len(train) // 4}):
        _show_record(train[index].record, name)


def _show_too_few(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """Says, before anybody trains, that the test will be too small to tell whether it helped."""
    held_out = sets["test"]["conversations"]
    if held_out >= ENOUGH_CONVERSATIONS:
        return
    share = sets["test"]["records"] / sum(entry["records"] for entry in sets.values())
    enough = math.ceil(20 * share * ENOUGH_CONVERSATIONS / max(held_out, 1)) / 20
    remedy = f"--test-share {enough:g} would hold out about enough" if enough <= 0.4 else "that takes a longer history"
    console.say()
    console.say(
        f"{_counted(held_out, 'conversation')} in the test: whether training helped can be told from"
        f" {ENOUGH_CONVERSATIONS} on; {remedy}"
    )


def _show_record(record: Record, persona_name: str) -> None:
    turns = _counted(len(record.history), "earlier turn")
    console.table(
        [record.source.timestamp[:16].replace("T", " "), f"{turns}, confidence {record.source.confidence:.2f}"],
        [
            *([("context", _shortened(record.input))] if record.input else []),
            ("prompt", _shortened(record.instruction)),
            (persona_name, _shortened(record.output)),
        ],
    )
    console.say()


def _shortened(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def _drops(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Indented rows; a reason without words of its own shows its name."""
    dropped = [(reason, count) for reason, count in counts.items() if reason != "chat"]
    return [(f"  - {REASONS.get(reason, reason.replace('_', ' '))}", f"{count:,}") for reason, count in dropped]


def _by_size(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(
        sorted(((name, count) for name, count in counts.items() if count), key=lambda item: (-item[1], item[0]))
    )


def _date_range(unix_ms: Iterable[int]) -> dict[str, str]:
    moments = [moment for moment in unix_ms if moment >= FIRST_DATE_MS]  # others only count places in a file
    if not moments:
        return {"first": "", "last": ""}
    first, last = (datetime.fromtimestamp(moment / 1000, UTC) for moment in (min(moments), max(moments)))
    return {"first": first.strftime("%Y-%m-%dT%H:%M:%SZ"), "last": last.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
