"""One file: what kind it is, by how it starts, and what it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from utils.chatlogs.sources import (
    archive,
    chat_jsonl,
    discord_api,
    discord_csv,
    discord_json,
    history_tracker,
    source_files,
)
from utils.chatlogs.sources.discord_csv import CsvFile
from utils.chatlogs.sources.export import Export, NotAnExport
from utils.chatlogs.sources.source_files import SourceFile
from utils.records import Record

OTHER_KIND = "is of a kind that is not read"
AS_JSON = "can't be read back; export the channel as JSON"

_JSON_START = re.compile(rb'[\s\0]*(?:\{[\s\0]*(?:"|\}|\Z)|\[[\s\0]*(?:[\[{\]]|\Z))')
_MESSAGES_KEY = re.compile(rb'"messages"\s{0,20}:')
_AUTHOR_KEY = re.compile(rb'"author"\s{0,20}:\s{0,20}\{')


@dataclass(frozen=True)
class Examples:
    """Ready-made records of one file."""

    records: list[Record]
    warnings: list[str]


Found = Export | CsvFile | Examples


def read(file: SourceFile) -> Iterator[Found]:
    """What the file holds. Raises NotAnExport, with the reason, and OSError."""
    start = file.head()
    head = source_files.as_utf_8(start)
    if not start.strip(b" \t\r\n\0"):
        raise NotAnExport("is empty")
    if start.startswith(history_tracker.START):
        yield from history_tracker.read(file)
    elif start.startswith(archive.START):
        raise NotAnExport(
            "is an archive inside an archive; unpack the outer one first" if not file.on_disk else OTHER_KIND
        )
    elif discord_csv.looks_like(head):
        yield discord_csv.read(source_files.as_utf_8(file.read()), file.path)
    elif _JSON_START.match(head) or file.path.suffix.lower() in (".json", ".jsonl"):
        yield from _read_json(file, head)
    elif head.lstrip()[:14].lower() == b"<!doctype html" and b"chatlog" in head:
        raise NotAnExport(f"is an HTML page of DiscordChatExporter, which {AS_JSON}")
    elif head.startswith(b"====") and b"Channel: " in head:
        raise NotAnExport(f"is a text export of DiscordChatExporter, which {AS_JSON}")
    else:
        raise NotAnExport(OTHER_KIND)


def _read_json(file: SourceFile, head: bytes) -> Iterator[Export | Examples]:
    if chat_jsonl.looks_like(head):
        yield Examples(*chat_jsonl.read(source_files.as_utf_8(file.read()), source_files.as_text(file.path.stem)))
    elif head.lstrip(b" \t\r\n\0")[:1] == b"[":
        yield from discord_api.read(source_files.as_utf_8(file.read()))
    elif _AUTHOR_KEY.search(head) and not _MESSAGES_KEY.search(head):
        lines = source_files.as_utf_8(file.read()).split(b"\n")  # one message a line
        yield from discord_api.read(b"[" + b",".join(line for line in lines if line.strip()) + b"]")
    elif len(head) > source_files.HEAD_BYTES // 4 and not _MESSAGES_KEY.search(head):
        raise NotAnExport("is JSON, but no DiscordChatExporter file")  # without reading all of it
    else:
        with file.open() as opened:
            yield from discord_json.read_parts(opened)
