"""Looks at a path and reads every export under it. What can't be read is named with the reason; the rest goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils import console
from utils.chatlogs import discord_api, discord_json
from utils.chatlogs.export import Export, NotAnExport
from utils.console import UserError

HOW_TO_EXPORT = (
    "export your channels with DiscordChatExporter (github.com/Tyrrrz/DiscordChatExporter) as JSON into data/raw/, "
    "or try the sample: python prepare_training_data.py --source data/sample --persona rohan"
)


# how a file starts -> its encoding; Python's own `utf-16` takes the byte order mark off
_UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"{\0": "utf-16-le", b"\0{": "utf-16-be"}
OTHER_KIND = "is of a kind that is not read"


@dataclass
class Reading:
    """Every export found, in the order of the files' names, and the files that gave none: (path, reason)."""

    exports: list[Export] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_source(source: Path) -> Reading:
    """Reads a file, or every file of a folder and its subfolders.

    Raises UserError where there is nothing at `source`, or nothing in it could be read.
    """
    if not source.exists() and source != Path("data/raw"):
        raise UserError(f"there is no file or folder at {source}; set SOURCE, or pass --source, to your exports")
    files = list(_files(source))
    if not files:
        raise UserError(f"there is nothing in {source}: {HOW_TO_EXPORT}")
    reading = Reading()
    with console.progress("files") as progress:
        for path in progress.track(files, description="reading"):
            _read_into(reading, path)
    if not reading.exports:
        raise UserError(f"no export could be read in {source}: {_why_none(reading.skipped)}; {HOW_TO_EXPORT}")
    return reading


def _why_none(skipped: list[tuple[Path, str]]) -> str:
    candidates = [f"{path.name} {reason}" for path, reason in skipped if reason != OTHER_KIND]
    if not candidates:
        return "it holds no .json file"
    others = f" (and {len(candidates) - 1} more files)" if len(candidates) > 1 else ""
    return candidates[0] + others


def _read_into(reading: Reading, path: Path) -> None:
    try:
        exports = read_file(path)
    except NotAnExport as reason:
        reading.skipped.append((path, str(reason)))
    except OSError as error:
        reading.skipped.append((path, f"can't be read: {error.strerror}"))
    else:
        reading.exports += exports
        reading.warnings += [f"{path.name} {warning}" for export in exports for warning in export.warnings]


def read_file(path: Path) -> list[Export]:
    """What a file holds, known by its content. Raises NotAnExport, with the reason, and OSError."""
    if path.suffix.lower() != ".json":
        raise NotAnExport(OTHER_KIND)
    data = path.read_bytes()
    start = data[:2]
    if start in _UTF_16:
        data = data.decode(_UTF_16[start], "replace").encode("utf-8", "replace")
    data = data.removeprefix(b"\xef\xbb\xbf")
    match data[:200].lstrip(b" \t\r\n\0")[:1]:
        case b"":
            raise NotAnExport("is empty")
        case b"[":
            return discord_api.read(data)
        case _:
            return [discord_json.read(data)]


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    elif source.is_dir():
        found = (path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        yield from sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Orders `part 2` before `part 10`, and a file before its own parts."""
    pieces = re.split(r"(\d+)", str(path.with_suffix("")))
    return [(0, int(piece), "") if index % 2 else (1, 0, piece) for index, piece in enumerate(pieces)]
