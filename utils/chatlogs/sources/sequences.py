"""Messages without ids, in many overlapping files -> one sequence a channel, each message once, with a made-up id.

A genuine second "lol" must stay, and a second copy of the first must go. Text alone can't tell the two apart; their
places in the files can:

- The parts of one export follow each other and never overlap, so whatever stands in them twice was said twice.
- Two exports of a channel are two views of the same sequence. Within one step of the clock (a millisecond in new files,
  a minute in old ones) they are laid over each other like two texts that are compared: what both have, in the same
  order, is one message; what one lacks was cut off there, or deleted in between.
- Where one export ends and the next begins within the same minute, and the next doesn't open with what the other has
  of it, it goes on where the other stopped.
- A data package has its owner's messages with their ids, and an id holds the millisecond: a row of the same person and
  millisecond gets that id. A coarser clock can't be matched; there the package's copies are left out.

The made-up id is a snowflake: the time, the place within the minute, and a hash, so that it sorts like a real one and
comes out the same whatever else is read.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from utils.chatlogs.message import Message
from utils.chatlogs.sources.discord_csv import CsvFile, Row
from utils.chatlogs.sources.export import DISCORD_EPOCH_MS, LAST_MS, ChannelInfo, Export
from utils.chatlogs.sources.known_messages import Known, Minute, outside, own_near

ZONES_MS = 14 * 3_600_000  # a clock without a time zone is wrong by so much at most
LONGEST_COMPARED = 500  # rows within one minute; more of them are compared by count, not by place


@dataclass(frozen=True)
class _Sequence:
    channel: ChannelInfo
    rows: list[Row]
    precision_ms: int
    has_zone: bool


def merge(files: Sequence[CsvFile], known: Mapping[int, Known]) -> list[Export]:
    """One export a channel, in the order of the channels' ids. The files come in the order of their names.

    Rows that `known` has with real ids are left out, but for those of data packages, which get their real ids.
    """
    series: dict[str, list[CsvFile]] = defaultdict(list)
    for file in files:
        series[file.series].append(file)
    by_channel: dict[int, list[_Sequence]] = defaultdict(list)
    for parts in series.values():
        by_channel[parts[0].channel.id].append(_join(parts))
    return [
        _to_export(sequences, known.get(channel_id, Known())) for channel_id, sequences in sorted(by_channel.items())
    ]


def _join(parts: Sequence[CsvFile]) -> _Sequence:
    """The parts of one export, oldest row first."""
    rows = [row for part in parts for row in part.rows]
    if rows[0].unix_ms > rows[-1].unix_ms:
        rows.reverse()
    rows.sort(key=lambda row: row.unix_ms)
    precision_ms = max(part.precision_ms for part in parts)
    return _Sequence(parts[0].channel, rows, precision_ms, all(part.has_zone for part in parts))


def _to_export(sequences: list[_Sequence], known: Known) -> Export:
    moments = set(known.moments)
    messages: list[Message] = []
    taken: set[int] = set()
    warnings: list[str] = []
    for precision_ms in sorted({sequence.precision_ms for sequence in sequences}):  # the finest clock is the best
        alike = [sequence for sequence in sequences if sequence.precision_ms == precision_ms]
        minutes = _overlay(alike, precision_ms)
        if precision_ms == 1:
            kept = {at: [row for row in rows if (row.author_id, at) not in moments] for at, rows in minutes.items()}
        else:
            doubt_ms = 0 if all(sequence.has_zone for sequence in alike) else ZONES_MS
            kept = outside(minutes, moments, doubt_ms)
            covered = own_near(kept, known, doubt_ms + 60_000)
            if covered:
                known.covered |= covered
                warnings.append(
                    f"covers the time of {len(covered)} messages of a data package; its copies are left out"
                )
        left_out = sum(map(len, minutes.values())) - sum(map(len, kept.values()))
        if left_out and precision_ms > 1:
            warnings.append(f"has {left_out} rows from a time that a better export covers; they are left out")
        channel_id = sequences[0].channel.id
        found = [
            message
            for at in sorted(kept)
            for message in _to_messages(kept[at], channel_id, precision_ms, taken, known.own)
        ]
        messages += found
        moments.update((message.author_id, message.unix_ms) for message in found)
        absurd = sum(map(len, kept.values())) - len(found)
        if absurd:
            warnings.append(f"has {absurd} rows from before Discord was there, or from far ahead; they are left out")
    if not all(sequence.has_zone for sequence in sequences):
        warnings.append("has dates without a time zone; they are taken as UTC")
    return Export(sequences[-1].channel, messages, warnings=warnings)


# Laying one export over the other ------------------------------------------------------------------------------------


def _overlay(sequences: list[_Sequence], precision_ms: int) -> dict[int, Minute]:
    """The rows of all the sequences by their time, each message once."""
    merged: dict[int, Minute] = {}
    for sequence in sorted(sequences, key=lambda one: one.rows[0].unix_ms):
        minutes: dict[int, Minute] = defaultdict(list)
        for row in sequence.rows:
            minutes[row.unix_ms].append(row)
        end = max(merged, default=None)
        for at, rows in minutes.items():
            before = merged.get(at)
            if before is None:
                merged[at] = rows
            elif precision_ms == 1:
                merged[at] = _union_by_author(before, rows)
            elif at == end == sequence.rows[0].unix_ms and not _opens_with(rows, before):
                merged[at] = before + rows
            else:
                merged[at] = _union_by_place(before, rows)
    return merged


def _opens_with(rows: Minute, beginning: Minute) -> bool:
    return [_key(row) for row in rows[: len(beginning)]] == [_key(row) for row in beginning]


def _key(row: Row) -> tuple[int, str, str]:
    return row.author_id, row.author_name if row.author_id < 2**48 else "", row.content


def _union_by_author(before: Minute, rows: Minute) -> Minute:
    """Who writes twice within a millisecond has two messages; the newer export may hold an edited text."""

    def numbered(minute: Minute) -> dict[tuple[int, int], Row]:
        count: Counter[int] = Counter()
        found = {}
        for row in minute:
            found[row.author_id, count[row.author_id]] = row
            count[row.author_id] += 1
        return found

    return list({**numbered(before), **numbered(rows)}.values())


def _union_by_place(before: Minute, rows: Minute) -> Minute:
    """The shortest sequence in which both are found (as difflib sees it, which is in order, if not always shortest)."""
    keys = [_key(row) for row in before], [_key(row) for row in rows]
    if max(map(len, keys)) > LONGEST_COMPARED:
        missing = Counter(keys[1]) - Counter(keys[0])
        added = []
        for key, row in zip(keys[1], rows, strict=True):
            if missing[key] > 0:
                missing[key] -= 1
                added.append(row)
        return before + added
    union: Minute = []
    for kind, first, last, other_first, other_last in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        union += before[first:last]
        if kind != "equal":
            union += rows[other_first:other_last]
    return union


# Ids -----------------------------------------------------------------------------------------------------------------


def _to_messages(
    minute: Minute, channel_id: int, precision_ms: int, taken: set[int], own: Mapping[tuple[int, int], int]
) -> list[Message]:
    said: Counter[tuple[object, ...]] = Counter()
    messages = []
    for place, row in enumerate(minute):
        if not DISCORD_EPOCH_MS <= row.unix_ms < LAST_MS:
            continue
        what = (row.author_id,) if precision_ms == 1 else _key(row)
        moment = row.unix_ms - DISCORD_EPOCH_MS + min(place, precision_ms - 1)
        message_id = moment << 22 | zlib.crc32(repr((*what, said[what])).encode()) & 0x3FFFFF
        said[what] += 1
        real_id = own.get((row.author_id, row.unix_ms)) if precision_ms == 1 else None
        if real_id is not None and real_id not in taken:
            message_id = real_id
        while message_id in taken:
            message_id += 1
        taken.add(message_id)
        messages.append(
            Message(
                message_id,
                channel_id,
                row.unix_ms,
                row.author_id,
                row.author_name,
                row.content,
                is_system=row.is_system,
                attachments=row.attachments,
                reactions=row.reactions,
            )
        )
    return messages
