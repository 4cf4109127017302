"""SourceFile: what a person gave to read, on disk or inside a zip, found in the order of the names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from utils.chatlogs.sources.export import NotAnExport

HEAD_BYTES = 1 << 16  # so much of a file says what it is; a DiscordChatExporter header fits in it

_UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # Python's own `utf-16` takes the byte order mark off
_BARE_UTF_16 = re.compile(rb"(?:[\x09\x0a\x0d\x20-\x7e]\0){4}|(?:\0[\x09\x0a\x0d\x20-\x7e]){4}")


@dataclass(frozen=True)
class SourceFile:
    """`path` is what people see: the file's own, or the archive's with the member's name behind it.

    `open` gives the bytes from the start, each time anew. It raises OSError, and NotAnExport for a member of an archive
    that can't be taken out.
    """

    path: Path
    open: Callable[[], BinaryIO]
    on_disk: bool = True

    def head(self) -> bytes:
        with self.open() as file:
            return file.read(HEAD_BYTES)

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


def on_disk(path: Path) -> SourceFile:
    return SourceFile(path, lambda: path.open("rb"))


def find(source: Path) -> Iterator[SourceFile]:
    """The file, or every file of the folder and its subfolders but the hidden ones. A folder that may not be looked
    into, or is a link, stands for its files: opening it says why."""
    if source.is_file() or _is_closed(source):
        yield on_disk(source)
    elif source.is_dir():
        found = (
            path
            for path in source.rglob("*")
            if (path.is_file() or _is_closed(path) or _is_linked(path))
            and not is_hidden(path.relative_to(source).parts)
        )
        for path in sorted(found, key=natural_order):
            yield SourceFile(path, _not_followed) if _is_linked(path) else on_disk(path)


def _is_linked(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def _not_followed() -> BinaryIO:
    """A link may lead in a circle, or to another disk."""
    raise NotAnExport("is a link to a folder, which is not followed; name it as a source, too")


def _is_closed(path: Path) -> bool:
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


def is_hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def as_text(path: Path | str) -> str:
    """A path, or a part of one, in letters that UTF-8 has: a name may be bytes of another encoding."""
    return os.fsencode(path).decode("utf-8", "replace")


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Orders `part 2` before `part 10`, and a file before its own parts."""
    pieces = re.split(r"([0-9]+)", str(path.with_suffix("")))
    return [(0, int(piece[-30:]), "") if index % 2 else (1, 0, piece) for index, piece in enumerate(pieces)]


def as_utf_8(data: bytes) -> bytes:
    """The text without a byte order mark, and out of UTF-16 where it is that; other bytes stay as they are."""
    encoding = _UTF_16.get(data[:2])
    bare = _BARE_UTF_16.match(data) if encoding is None else None
    if bare:
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    if encoding:
        return data.decode(encoding, "replace").encode("utf-8", "replace")
    return data.removeprefix(b"\xef\xbb\xbf")


def many(sources: Path | str | Sequence[Path | str]) -> list[Path]:
    """One path or several, as a list without repetitions."""
    given = [sources] if isinstance(sources, Path | str) else sources
    return list(dict.fromkeys(map(Path, given)))
