"""Secrets and personal data out of the text: each becomes a placeholder that says what stood there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from utils.privacy import disguises
from utils.privacy.sensitive import RULES, Rule

_DIGIT = re.compile(r"\d")
_GAP = re.compile(r"\d(?=\D)")  # a digit that ends its group

# six characters or more that mix digits with letters, or small letters with capitals inside
_LIKE_CHANCE = re.compile(r"(?=\S{6})(?=\S*(?:[a-z]\S*\d|\d\S*[A-Za-z]|[A-Z]\S*\d|[a-z]\S*[A-Z]|[A-Z]{2}\S*[a-z]))")

WHOLE_LINES_ONLY = frozenset(["email", "phone", "credentials"])  # what follows them in the next line is other text
MAX_GROUPS = 8  # a number has no more
JOINED_LINES = 4  # a secret sent in pieces is looked for in so many lines


def mask(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many values of each kind were found; the values are kept nowhere.

    Text of several lines may hold a secret that somebody sent in pieces, one message after the other.
    """
    masked, found = _mask(text)
    return masked, Counter(kind for kind, _ in found)


def values(text: str) -> list[tuple[str, str]]:
    """(kind, value) of everything that `mask` replaces, as it is read without its disguise; in no particular order."""
    return _mask(text)[1]


def _mask(text: str) -> tuple[str, list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []
    if "\n" in text:
        text = _mask_across_lines(text, found)
    text = _mask_disguised(text, found)
    for rule in _candidates(text):
        text = _apply(rule, text, found)
    return text, found


def _candidates(text: str) -> list[Rule]:
    """The rules that can match at all."""
    lowered, digits = text.lower(), len(_DIGIT.findall(text))
    found = []
    for rule in RULES:
        if digits < rule.min_digits:
            continue
        if not rule.hints:
            found.append(rule)
            continue
        for hint in rule.hints:
            if hint in lowered:
                found.append(rule)
                break
    return found


def _apply(rule: Rule, text: str, found: list[tuple[str, str]]) -> str:
    pieces, done = [], 0
    for match in _matches(rule, text):
        pieces += [text[done : match.start()], match.expand(rule.replacement)]
        done = match.end()
        found.append((rule.kind, _value(match)))
    return "".join([*pieces, text[done:]]) if pieces else text


def _matches(rule: Rule, text: str) -> Iterator[re.Match[str]]:
    """What passes the rule's check; of groups of digits, as many as pass, from each group on."""
    if not rule.grouped:
        for match in rule.pattern.finditer(text):
            if rule.check is None or rule.check(match):
                yield match
        return
    position = 0
    while (match := rule.pattern.search(text, position)) is not None:
        gaps = [gap.start() + 1 for gap in _GAP.finditer(text, match.start(), match.end())]
        value = next(
            (fewer for fewer in _fewer_groups(rule, match, gaps) if rule.check is None or rule.check(fewer)), None
        )
        if value is None:  # a long row of single digits is a list: on with what follows it
            is_list = len(gaps) > MAX_GROUPS and len(_DIGIT.findall(match[0])) == len(gaps) + 1
            position = gaps[-1] if is_list else gaps[0] if gaps else match.end()
            continue
        yield value
        position = value.end()


def _value(match: re.Match[str]) -> str:
    """What a match holds besides its first group, which a rule's replacement keeps."""
    return match[0].removeprefix(match[1]) if match.lastindex else match[0]


def _is_found(rule: Rule, text: str, start: int, end: int) -> bool:
    """Whether the rule finds the value as it is written, too: then its turn comes later."""
    match = rule.pattern.match(text, start)
    return match is not None and match.end() >= end and (rule.check is None or rule.check(match))


def _mask_disguised(text: str, found: list[tuple[str, str]]) -> str:
    """Values that are whole only as they are read, not as they are written."""
    plain = disguises.unfold(text)
    if plain is None:
        return text
    values: list[tuple[int, int, str]] = []
    seen: list[tuple[int, int]] = []  # an earlier rule's value is not another's, whichever pass takes it
    for rule in _candidates(plain.text):
        for match in _matches(rule, plain.text):
            start, end = plain.span(match)
            if any(start < other_end and first < end for first, other_end in seen):
                continue
            if _is_found(rule, text, start, end):
                seen.append((start, end))
                continue
            before = plain.text[max(0, match.start() - 2) : match.start()]
            if text[start:end] == match[0] and text[:start].endswith(before):
                continue
            seen.append((start, end))
            values.append((start, end, match.expand(rule.replacement)))
            found.append((rule.kind, _value(match)))
    for start, end, placeholder in sorted(values, reverse=True):
        text = text[:start] + placeholder + text[end:]
    return text


def _fewer_groups(rule: Rule, match: re.Match[str], gaps: list[int]) -> Iterator[re.Match[str]]:
    yield match
    for gap in gaps[:MAX_GROUPS][::-1]:
        fewer = rule.pattern.match(match.string, match.start(), gap)
        if fewer is not None:
            yield fewer


def _mask_across_lines(text: str, found: list[tuple[str, str]]) -> str:
    lines = text.split("\n")
    number = 0
    while number < len(lines) - 1:
        across = _find_across(lines[number : number + JOINED_LINES])
        if across is None:
            number += 1
            continue
        rule, match, taken = across
        found.append((rule.kind, _value(match)))
        rest = match.string[match.end() :]
        space = "" if rest[:1] in ("", " ") else " "
        lines[number : number + taken] = [match.string[: match.start()] + match.expand(rule.replacement) + space + rest]
    return "\n".join(lines)


def _find_across(lines: list[str]) -> tuple[Rule, re.Match[str], int] | None:
    """A match that starts in the first line and ends in a later one, and over how many lines it runs.

    One that takes in whole lines is better than one that ends within a line, where it may have swallowed a word.
    """
    doubtful = None
    rules = [rule for rule in _candidates("".join(lines)) if rule.across_lines]
    for taken in range(len(lines), 1, -1) if rules else ():
        joined = "".join(lines[:taken])
        before_last = len(joined) - len(lines[taken - 1])
        for rule in rules:
            for match in rule.pattern.finditer(joined):
                if match.start() >= len(lines[0]):
                    break
                if match.end() <= before_last or not _goes_on(rule, match, lines[0]):
                    continue
                if match.end() == len(joined):
                    return rule, match, taken
                if rule.kind not in WHOLE_LINES_ONLY and not rule.pattern.search(lines[0], match.start()):
                    doubtful = doubtful or (rule, match, taken)
    return doubtful


def _goes_on(rule: Rule, match: re.Match[str], first_line: str) -> bool:
    """Whether the later lines belong to the value: they do where it is none without them, or they look like chance."""
    if rule.check is not None and not rule.check(match):
        return False
    later = match.string[len(first_line) : match.end()]
    return rule.pattern.search(first_line, match.start()) is None or bool(_LIKE_CHANCE.match(later))
