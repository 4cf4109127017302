"""Secrets and personal data out of the text: each becomes a placeholder that says what stood there."""

from __future__ import annotations

import re
from collections import Counter

from utils.chatlogs.sensitive import RULES, Rule

JOINED_LINES = 4  # a secret sent in pieces is looked for in so many lines


def mask(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many values of each kind were found; the values are kept nowhere.

    A secret that somebody sent in pieces, one message after the other, stands in `text` with line breaks inside: a
    second pass looks for it across the lines.
    """
    found: Counter[str] = Counter()
    lowered = text.lower()
    for rule in RULES:
        if rule.hint in lowered:
            text = _apply(rule, text, found)
    if "\n" in text:
        text = _mask_across_lines(text, found)
    return text, found


def _apply(rule: Rule, text: str, found: Counter[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if rule.check is not None and not rule.check(match):
            return match[0]
        found[rule.kind] += 1
        return match.expand(rule.replacement)

    return rule.pattern.sub(replace, text)


def _mask_across_lines(text: str, found: Counter[str]) -> str:
    lines = text.split("\n")
    number = 0
    while number < len(lines) - 1:
        piece = lines[number : number + JOINED_LINES]
        joined = "".join(piece)
        span = _first_across(joined, len(piece[0]))
        if span is None:
            number += 1
            continue
        rule, match = span
        found[rule.kind] += 1
        whole = joined[: match.start()] + match.expand(rule.replacement)
        end, taken = match.end(), 0
        while end > len(piece[taken]):
            end -= len(piece[taken])
            taken += 1
        rest = piece[taken][end:]
        lines[number : number + taken + 1] = [whole + (rest if rest[:1] in ("", " ") else " " + rest)]
    return "\n".join(lines)


def _first_across(joined: str, first_line_end: int) -> tuple[Rule, re.Match[str]] | None:
    """A match that starts in the first line and ends behind it."""
    lowered = joined.lower()
    for rule in RULES:
        if not rule.across_lines or rule.hint not in lowered:
            continue
        for match in rule.pattern.finditer(joined):
            if match.start() >= first_line_end:
                break
            if match.end() > first_line_end and (rule.check is None or rule.check(match)):
                return rule, match
    return None
