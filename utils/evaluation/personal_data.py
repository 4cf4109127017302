"""Secrets and personal data in what a model says, found by the rules that mask them in the training data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from utils import prompts
from utils.evaluation.results import Comparison, Leak, Memorization, Reply
from utils.privacy import masking
from utils.records import Record

_NOT_DIGIT = re.compile(r"\D")
NUMBERS = frozenset(["phone", "card number"])


def finding(asked: Sequence[Record], replies: Sequence[Reply], training: Sequence[Record]) -> Memorization:
    """Looks through `replies`, drawn to the prompts of the training records `asked`.

    What the prompt itself held is not counted: to repeat it gives nothing away. What is masked in the training text
    can't be found there, so the second figure is 0 for a model of masked data, unless it lets through what it should
    not.
    """
    texts = {text for record in training for text in _texts(record)}  # a reply is in the history of those after it
    known = {value for text in texts for value in find(text)}
    found = verbatim = 0
    giving = []
    for record, reply in zip(asked, replies, strict=True):
        prompt = "\n".join(message["content"] for message in prompts.prompt_messages(record))
        values = find(reply.text) - find(prompt)
        found += len(values)
        verbatim += len(values & known)
        if values & known:
            giving.append(record)
    return Memorization(
        comparisons=(
            Comparison(
                "personal data in drawn replies",
                found,
                meaning=f"addresses, numbers, keys and other secrets in {len(replies)} replies to training prompts",
            ),
            Comparison("personal data out of the training text", verbatim, better="lower", meaning="of those"),
        ),
        leaks=tuple(
            Leak(
                f"{record.source.conversation}#{record.source.turn}",
                record,
                "a reply drawn to this prompt gives away personal data of the training text",
            )
            for record in giving
        ),
        warnings=(
            f"{verbatim} secrets or personal data of the training text stand in {len(replies)} drawn replies: prepare"
            " the data again with personal data masked, and train anew",
        )
        if verbatim
        else (),
    )


def find(text: str) -> set[tuple[str, str]]:
    """The kinds and values in a text; a value is the same however it is grouped, spaced or capitalised."""
    return {
        (kind, _NOT_DIGIT.sub("", value) if kind in NUMBERS else "".join(value.split()).lower())
        for kind, value in masking.values(text)
    }


def _texts(record: Record) -> Iterator[str]:
    yield from (record.instruction, record.input, record.output)
    for turn in record.history:
        yield from turn
