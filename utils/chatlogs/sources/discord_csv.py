"""DiscordChatExporter's CSV -> the rows of one file. sequences.py makes messages of the rows of all files of a channel.

Modern: `AuthorID,Author,Date,Content,Attachments,Reactions`, dates in ISO 8601. Before 2020: `;` between and behind the
fields, dates such as `05-Dec-19 01:48 AM` in the exporter's own time zone; before 2018 without `AuthorID`.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import msgspec

from utils.chatlogs.sources.export import ChannelInfo, NotAnExport, is_id, unix_ms
from utils.chatlogs.sources.source_files import as_text

_HEADER = re.compile(rb'\s{0,8}"{0,8}(?:AuthorID"?[,;\t]"?)?Author"?[,;\t]"?Date"?[,;\t]"?Content\b', re.IGNORECASE)
_ROW_START = re.compile(r'^"[0-9]{1,20}"[,;\t]', re.MULTILINE)  # inside a field every quote is doubled: no field has it
_IN_NAME = re.compile(r"\[([0-9]{15,20})\]")
_PART = re.compile(r"\s{0,3}\[part ([0-9]{1,9})\]", re.IGNORECASE)
_REACTION_COUNT = re.compile(r"\(([0-9]{1,9})\)(?:,|\Z)")
_DISCRIMINATOR = re.compile(r"#[0-9]{4}\Z")
# What DiscordChatExporter writes for a message that has no words of its own; the CSV has no column that says so.
_SYSTEM_TEXT = re.compile(
    r"(?:Joined the server|Pinned a message|Started a thread|Left the group|Changed the channel (?:icon|name)"
    r"|Started a call that lasted [0-9.,]{1,12} minutes?|(?:Added|Removed) .{1,40} (?:to|from) the group)\."
    r"|Changed the channel name: .{1,100}"
)
_DATE_FORMATS = tuple(
    f"{day} {time}"
    for day in ("%d-%b-%y", "%d-%b-%Y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d")
    for time in ("%I:%M %p", "%H:%M", "%I:%M:%S %p", "%H:%M:%S")
)
_SECONDS = re.compile(r":[0-9]{2}:[0-9]{2}([.,][0-9])?")
_SAMPLES = 400


class Row(msgspec.Struct, frozen=True, gc=False):
    """One message as the CSV has it. `unix_ms` is UTC, in milliseconds."""

    unix_ms: int
    author_id: int
    author_name: str
    content: str
    attachments: int
    reactions: int

    @property
    def is_system(self) -> bool:
        return _SYSTEM_TEXT.fullmatch(self.content) is not None


@dataclass
class CsvFile:
    """`series` names the export that the file is a part of: the parts of one series follow each other.

    `precision_ms` is the smallest step of the dates: 1, 1,000 or 60,000 milliseconds.
    """

    series: str
    channel: ChannelInfo
    rows: list[Row]
    precision_ms: int
    has_zone: bool
    warnings: list[str] = field(default_factory=list)


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with these bytes has the columns."""
    return _HEADER.match(head) is not None


def read(data: bytes, path: Path) -> CsvFile:
    """Raises NotAnExport where no row can be used; `path` says which channel it is, and which part of its export."""
    text = data.decode("utf-8", "replace").replace("\0", "")
    header, _, body = text.lstrip().partition("\n")
    delimiter = re.search(r"[,;\t]", header)[0]
    columns = [name.strip(' "\r').lower() for name in header.split(delimiter)]
    while not columns[-1]:  # the trailing `;` adds an empty one
        columns.pop()
    if not {"author", "date", "content"} <= set(columns):
        raise NotAnExport("has a damaged header")
    warnings: list[str] = []
    cells = _split(body, delimiter, columns, warnings, offset=len(header.encode()) + 1)
    column = {name: index for index, name in enumerate(columns)}
    read_date, precision_ms, has_zone = _date_reader([row[column["date"]] for row in cells[:_SAMPLES]])
    rows, unusable, rounded = [], 0, 0
    for row in cells:
        author_name = _DISCRIMINATOR.sub("", row[column["author"]].strip())
        author = row[column["authorid"]].strip() if "authorid" in column else ""
        author_id = int(author) if is_id(author) else 0 if "authorid" in column else id_of_name(author_name)
        moment = read_date(row[column["date"]])
        if moment is None or author_id == 0:
            unusable += 1
            rounded += "E+" in author.upper()
            continue
        files = row[column["attachments"]] if "attachments" in column else ""
        liked = row[column["reactions"]] if "reactions" in column else ""
        attachments = len([name for name in files.split(",") if name.strip()])
        reactions = sum(map(int, _REACTION_COUNT.findall(liked)))
        rows.append(Row(moment, author_id, author_name, row[column["content"]], attachments, reactions))
    if rounded:
        warnings.append(f"has {rounded} author ids that a spreadsheet program has rounded; those rows are left out")
    if unusable > rounded:
        warnings.append(f"has {unusable - rounded} rows without a usable author or date; they are left out")
    if not rows:
        raise NotAnExport(f"has no row that can be used ({warnings[0]})" if warnings else "has no rows")
    series, channel = _name(path)
    return CsvFile(series, channel, rows, precision_ms, has_zone, warnings)


def id_of_name(name: str) -> int:
    """An id for somebody, or a channel, of whom only a name is known: 48 bits, below every id of Discord's own."""
    data = name.encode("utf-8", "replace")
    return (zlib.crc32(data) << 16 | zlib.crc32(data + b"\0") & 0xFFFF) or 1


def _name(path: Path) -> tuple[str, ChannelInfo]:
    """`Guild - Category - Channel [id] [part 2].csv` -> the series without the part, and the channel."""
    stem = _PART.sub("", as_text(path.name.removesuffix(path.suffix)))
    found = _IN_NAME.search(stem)
    title = stem[: found.start()].strip() if found else stem.strip()
    guild, *_, name = title.split(" - ") if " - " in title else ("", title)
    channel_id = int(found[1]) if found else id_of_name(stem)
    return str(path.parent / stem), ChannelInfo(channel_id, name, guild_name=guild)


# Cells ---------------------------------------------------------------------------------------------------------------


def _split(body: str, delimiter: str, columns: list[str], warnings: list[str], offset: int) -> list[list[str]]:
    """Every row with all its columns. A damaged file is cut where a row starts, so that the damage stays in its row."""
    width = len(columns)

    def is_whole(row: list[str]) -> bool:
        return width <= len(row) <= width + 1 and not any(row[width:])

    try:
        rows = [row for row in csv.reader(io.StringIO(body, newline=""), delimiter=delimiter) if row]
        if all(map(is_whole, rows)):
            return rows
    except csv.Error:
        rows = []
    starts = [match.start() for match in _ROW_START.finditer(body)]
    if not starts:
        damaged = len(rows) - len(whole := list(filter(is_whole, rows)))
        warnings.append(f"has {damaged} damaged rows; they are left out")
        return whole
    whole, damaged_at = [], []
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        try:
            (row,) = filter(None, csv.reader(io.StringIO(body[start:end], newline=""), delimiter=delimiter))
        except (csv.Error, ValueError):
            row = []
        if is_whole(row):
            whole.append(row)
        else:
            damaged_at.append(start)
    if damaged_at:
        first = offset + len(body[: damaged_at[0]].encode())
        warnings.append(
            f"is cut off or damaged in {len(damaged_at)} rows, the first at byte {first}; {len(whole)} kept"
        )
    return whole


# Dates ---------------------------------------------------------------------------------------------------------------


def _date_reader(samples: list[str]) -> tuple[Callable[[str], int | None], int, bool]:
    """Reads a date as milliseconds, UTC, or as None; how fine the dates are, in milliseconds; whether they have zones.

    Of several formats that fit (05/06 may be May or June) the one that leaves the rows in order is right.
    """
    samples = list(dict.fromkeys(" ".join(sample.split()) for sample in samples))
    seconds = next((found for found in map(_SECONDS.search, samples) if found), None)
    precision_ms = 60_000 if seconds is None else 1_000 if seconds[1] is None else 1
    formats = [_iso, *(_in_format(pattern) for pattern in _DATE_FORMATS)]
    candidates = next((fit for sample in samples if (fit := [f for f in formats if f(sample) is not None])), [_iso])

    def misfit(parse: Callable[[str], datetime | None]) -> tuple[int, int]:
        moments = [moment.replace(tzinfo=None) for moment in map(parse, samples) if moment is not None]
        ups = sum(later > earlier for earlier, later in pairwise(moments))
        downs = sum(later < earlier for earlier, later in pairwise(moments))
        return len(samples) - len(moments), min(ups, downs)

    best = min(candidates, key=misfit) if len(candidates) > 1 else candidates[0]
    known: dict[str, int | None] = {}

    def parse(text: str) -> int | None:
        if text not in known:
            moment = best(" ".join(text.split()))
            known[text] = unix_ms(moment) if moment is not None else None
        return known[text]

    first = next((moment for moment in map(best, samples) if moment is not None), None)
    return parse, precision_ms, first is not None and first.tzinfo is not None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _in_format(pattern: str) -> Callable[[str], datetime | None]:
    def parse(text: str) -> datetime | None:
        try:
            return datetime.strptime(text, pattern)
        except ValueError:
            return None

    return parse
