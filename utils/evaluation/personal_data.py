"""Personal data in what a model says: e-mail addresses, phone numbers and public IPv4 addresses.

The replies to look through are a few hundred short ones, so precision matters less here than where the training data
is masked: whatever is found is then looked for in the training text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

import phonenumbers

from utils import prompts
from utils.evaluation.results import Comparison, Leak, Memorization, Reply
from utils.records import Record

_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-zA-Z]{2,24}")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_NOT_DIGIT = re.compile(r"\D")
PHONE_REGION = "US"  # of numbers without a country code


def finding(asked: Sequence[Record], replies: Sequence[Reply], training: Sequence[Record]) -> Memorization:
    """Looks through `replies`, drawn to the prompts of the training records `asked`.

    What the prompt itself held is not counted: to repeat it gives nothing away.
    """
    known = {_normalised(value) for record in training for text in _texts(record) for value in find(text)}
    found = verbatim = 0
    giving = []
    for record, reply in zip(asked, replies, strict=True):
        prompt = "\n".join(message["content"] for message in prompts.prompt_messages(record))
        values = {_normalised(value) for value in find(reply.text)} - {_normalised(value) for value in find(prompt)}
        found += len(values)
        verbatim += len(values & known)
        if values & known:
            giving.append(record)
    return Memorization(
        comparisons=(
            Comparison(
                "personal data in drawn replies",
                found,
                meaning=f"e-mail addresses, phone numbers and IPs in {len(replies)} replies to training prompts",
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
            f"{verbatim} e-mail addresses, phone numbers or IPs of the training text stand in {len(replies)} drawn"
            " replies: prepare the data again with personal data masked, and train anew",
        )
        if verbatim
        else (),
    )


def find(text: str) -> Iterator[str]:
    """The values as they stand in the text."""
    if "@" in text:
        yield from _EMAIL.findall(text)
    for value in _IPV4.findall(text):
        if _is_public(value):
            yield value
    if sum(map(str.isdigit, text)) >= 7:
        yield from (match.raw_string for match in phonenumbers.PhoneNumberMatcher(text, PHONE_REGION))


def _is_public(value: str) -> bool:
    try:
        return ipaddress.IPv4Address(value).is_global
    except ValueError:
        return False


def _normalised(value: str) -> str:
    """A phone number is the same however its digits are grouped."""
    return value.lower() if "@" in value or value.count(".") == 3 else _NOT_DIGIT.sub("", value)


def _texts(record: Record) -> Iterator[str]:
    yield from (record.instruction, record.input, record.output)
    for turn in record.history:
        yield from turn
