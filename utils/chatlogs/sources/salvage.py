"""What can still be read of a damaged JSON array: every complete item, and where the damage is.

The text holds bytes that are not UTF-8 as lone surrogates (`surrogateescape`), so that offsets in bytes stay exact.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
NEXT_OBJECT = re.compile(r'\{\s{0,40}"')
DEEP_ITEMS = 2_000  # nested deeper than Python follows; a megabyte may open 100,000 of them
_BETWEEN_ITEMS = re.compile(r"[\s,\0]*")


@dataclass(frozen=True)
class Place:
    """Which part of a file is looked at. `offset_bytes` is to be added to the part's own offsets."""

    offset_bytes: int = 0
    items_before: int = 0
    is_last: bool = True


def decode_items(
    text: str, start: int, next_item: re.Pattern[str] = NEXT_OBJECT, place: Place | None = None
) -> tuple[list[object], int, list[str]]:
    """The items of the array that opens before `start`; the end of what was read; the problems met, in words.

    Behind a damaged item reading goes on where `next_item` matches. `place` says which part of a file the text is; none
    is all of it.
    """
    place = place or Place()
    decoder = json.JSONDecoder(strict=False)  # raw control characters inside strings are let through
    items: list[object] = []
    damaged: list[int] = []
    deep = 0
    cut_off = False
    position = start
    while True:
        position = _BETWEEN_ITEMS.match(text, position).end()
        if text[position : position + 1] == "]":
            position += 1
            break
        try:
            item, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            damaged.append(position)
            deep += isinstance(error, RecursionError)
            following = next_item.search(text, position + 1)
            if following is None or deep == DEEP_ITEMS:
                cut_off = True
                break
            position = following.start()
        else:
            items.append(mend(item))
    problems = []
    if cut_off:
        position = len(text)
    if cut_off and place.is_last:
        offset = _bytes_before(text, damaged.pop()) + place.offset_bytes
        kept = len(items) + place.items_before
        problems.append(f"is cut off in or before the message at byte {offset}; {kept} messages are kept")
    if damaged:
        places = f"byte {_bytes_before(text, damaged[0]) + place.offset_bytes}"
        places += f" and {len(damaged) - 1} more places" if len(damaged) > 1 else ""
        problems.append(f"is damaged at {places}; reading went on at the next message")
    if _LONE_SURROGATE.search(text):
        problems.append("holds bytes that are not UTF-8; they were replaced")
    return items, position, problems


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogateescape"))


def decode_object(text: str) -> dict:
    """An object, or an empty one where the text is none."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {}
    return mend(value) if isinstance(value, dict) else {}


def mend(value: object) -> object:
    """A JSON value without lone surrogates, which UTF-8 can't carry; pairs become their character."""
    if isinstance(value, str):
        if _LONE_SURROGATE.search(value):
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, list):
        return [mend(item) for item in value]
    if isinstance(value, dict):
        return {mend(key): mend(item) for key, item in value.items()}
    return value
