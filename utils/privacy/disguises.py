"""Values that don't stand plainly in a text: marked up in the middle, percent-encoded, in wide letters.

`unfold` gives the text as it would be read, with the place of every character in the text as it is written.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_DASHES = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
_DISGUISE = re.compile(
    r"(?P<nothing>(?<!\*)\*{1,3}(?!\*)|\|\||__|~~|\\(?=[_*~|`\\.+@-])|[\u034f\u200b-\u200f\u2060\ufe00-\ufe0f])"
    rf"|(?P<dash>[{_DASHES}])"
    r"|(?P<space>[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000])"
    r"|(?P<encoded>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<letter>[\u0660-\u0669\u06f0-\u06f9\u2070-\u2089\u2460-\u24ff\ufe50-\ufe6b\uff01-\uff5e\U0001d400-\U0001d7ff])"
)


@dataclass(frozen=True)
class Unfolded:
    """`text[i]` is written as the characters `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: list[int]
    ends: list[int]

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Where a match, which is not empty, stands in the original."""
        return self.starts[match.start()], self.ends[match.end() - 1]


def unfold(text: str) -> Unfolded | None:
    """None where nothing is disguised."""
    if _DISGUISE.search(text) is None:
        return None
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def keep(start: int, end: int) -> None:
        pieces.append(text[start:end])
        starts.extend(range(start, end))
        ends.extend(range(start + 1, end + 1))

    done = 0
    for match in _DISGUISE.finditer(text):
        keep(done, match.start())
        done = match.end()
        for letters, start, end in _read(match):
            pieces.append(letters)
            starts.extend([start] * len(letters))
            ends.extend([end] * len(letters))
    keep(done, len(text))
    return Unfolded("".join(pieces), starts, ends)


def _read(match: re.Match[str]) -> list[tuple[str, int, int]]:
    """What a disguise stands for, with the place of each part."""
    start, end = match.span()
    if match.lastgroup == "nothing":
        return []
    if match.lastgroup == "dash":
        return [("-", start, end)]
    if match.lastgroup == "space":
        return [(" ", start, end)]
    if match.lastgroup == "letter":
        digit = unicodedata.digit(match[0], None)
        return [(str(digit) if digit is not None else unicodedata.normalize("NFKC", match[0]), start, end)]
    found, at = [], start
    for letter in unquote_to_bytes(match[0]).decode("utf-8", "replace"):
        size = 3 * len(letter.encode()) if letter != "\ufffd" else 3
        found.append((" " if letter.isspace() else letter, at, min(at + size, end)))
        at = min(at + size, end)
    return found
