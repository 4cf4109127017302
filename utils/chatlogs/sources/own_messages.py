"""A data package's `messages.json` or `messages.csv`: what its owner wrote in one channel."""

from __future__ import annotations

import csv
import io
from datetime import datetime

import msgspec

from utils.chatlogs.sources import salvage
from utils.chatlogs.sources.export import DISCORD_EPOCH_MS, LARGEST_ID, NotAnExport, is_id, unix_ms
from utils.chatlogs.sources.source_files import SourceFile, as_utf_8


class Own(msgspec.Struct, rename="pascal", gc=False):
    ID: int = msgspec.field(name="ID")
    timestamp: str = ""
    contents: str | int | float | None = ""
    attachments: str | None = ""

    def unix_ms(self) -> int:
        """UTC, in milliseconds; out of the id where there is no time that can be read."""
        try:
            return unix_ms(datetime.fromisoformat(self.timestamp.removesuffix(" UTC")))
        except (ValueError, OverflowError):
            return (self.ID >> 22) + DISCORD_EPOCH_MS


def read(file: SourceFile, warnings: list[str]) -> list[Own]:
    """The messages in the file's order; what was wrong goes into `warnings`. Raises NotAnExport and OSError."""
    data = as_utf_8(file.read())
    where = f"({file.path.parent.name}/{file.path.name})"
    read_it = _from_json if file.path.suffix == ".json" else _from_csv
    found, problems = read_it(data)
    usable = [own for own in found if 0 < own.ID <= LARGEST_ID]
    if len(usable) < len(found):
        problems.append(f"has {len(found) - len(usable)} messages without a usable id; they are left out")
    warnings += [f"{where} {problem}" for problem in problems]
    return usable


def _from_json(data: bytes) -> tuple[list[Own], list[str]]:
    try:
        return msgspec.json.decode(data, type=list[Own], strict=False), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = data.decode("utf-8", "surrogateescape")
    start = text.find("[") + 1
    if not start:
        raise NotAnExport("is damaged or empty")
    items, _, problems = salvage.decode_items(text, start)
    found = []
    for item in items:
        try:
            found.append(msgspec.convert(item, Own, strict=False))
        except (msgspec.ValidationError, OverflowError):
            continue
    if len(found) < len(items):
        problems.append(f"has {len(items) - len(found)} items that are no message; they are left out")
    return found, problems


def _from_csv(data: bytes) -> tuple[list[Own], list[str]]:
    text = io.StringIO(data.decode("utf-8", "replace").replace("\0", ""), newline="")
    found, damaged = [], 0
    try:
        for row in csv.reader(text):
            number = row[0].strip() if row else ""  # int() takes fewer characters for space than strip(): not U+001C
            if len(row) >= 3 and is_id(number):
                found.append(Own(int(number), row[1], row[2], row[3] if len(row) > 3 else ""))
            elif row and number.upper() != "ID":
                damaged += 1
    except csv.Error:
        damaged += 1
    return found, [f"has {damaged} damaged rows; they are left out"] if damaged else []
