"""What the text of a message shows: its words, the names to call its author by, and its form."""

from __future__ import annotations

import re
from functools import cache

_WORD = re.compile(r"[^\W_]{3,40}")
_MENTION = re.compile(r"<@[!&]?\d{1,20}>|@\S{1,40}")
EDGES = ".,;:!?()<>@\"'*"  # what may stand around a name
_QUESTION_WORDS = frozenset(
    [
        "who",
        "what",
        "when",
        "where",
        "why",
        "which",
        "how",
        "is",
        "are",
        "was",
        "does",
        "do",
        "did",
        "can",
        "could",
        "should",
        "would",
        "will",
        "has",
        "have",
        "any",
        "anyone",
        "anybody",
        "whats",
        "hows",
    ]
)
_GREETING_WORDS = frozenset(
    ["hi", "hey", "hello", "hiya", "heya", "yo", "morning", "evening", "howdy", "greetings", "sup"]
)
_THANKS_WORDS = frozenset(["thanks", "thank", "thx", "ty", "tnx", "cheers", "thanx", "thankyou"])
_SHORT_ANSWER_WORDS = frozenset(
    [
        "yes",
        "no",
        "yep",
        "yeah",
        "nope",
        "yup",
        "nah",
        "yea",
        "sure",
        "maybe",
        "ok",
        "okay",
        "true",
        "right",
        "exactly",
        "correct",
    ]
)


def words_of(content: str) -> frozenset[str]:
    """Lower-case words of three letters and more, mentions left out."""
    return frozenset(_WORD.findall(_plain(content)))


def _plain(content: str) -> str:
    text = content.lower()
    return _MENTION.sub(" ", text) if "@" in text else text


@cache
def names_of(author_name: str, author_nickname: str) -> tuple[str, ...]:
    """The ways to call somebody in plain text: the whole name, or its first word."""
    names = []
    for name in (author_name, author_nickname):
        first = name.lower().split(maxsplit=1)[:1]
        names += [word for word in (part.strip(EDGES) for part in first) if len(word) >= 3]
    return tuple(names)


def forms_of(content: str) -> frozenset[str]:
    """Which of question, greeting, thanks, short_answer, short and command the message looks like."""
    text = _plain(content)
    words = [word.strip(EDGES) for word in text.split()]
    head = words[0] if words else ""
    forms = set()
    if "?" in text or head in _QUESTION_WORDS:
        forms.add("question")
    if head in _GREETING_WORDS:
        forms.add("greeting")
    if not _THANKS_WORDS.isdisjoint(words):
        forms.add("thanks")
    if head in _SHORT_ANSWER_WORDS:
        forms.add("short_answer")
    if len(words) <= 3:
        forms.add("short")
    if content.startswith(("!", "/")):
        forms.add("command")
    return frozenset(forms)
