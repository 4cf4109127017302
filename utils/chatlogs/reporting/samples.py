"""The page's sample records: what the model reads, and, framed, what it learns to write."""

from __future__ import annotations

import html
from collections.abc import Sequence

from utils.chatlogs.turns import Reply
from utils.records import Record

SAMPLES = 12


def render(train: Sequence[Reply], name: str) -> str:
    """Some records of the training set, from its whole time; `name` is the persona's."""
    chosen = sorted({(2 * number + 1) * len(train) // (2 * SAMPLES) for number in range(SAMPLES)})
    note = (
        '<p class="soft">Of the training set, spread over the time. The framed text is what the model learns to write;'
        " it reads the rest.</p>"
    )
    system = (
        f"<details><summary>system prompt of all</summary><code>{html.escape(train[0].record.system)}</code></details>"
    )
    return f'{note}{system}<div class="samples">{"".join(_sample(train[index], name) for index in chosen)}</div>'


def _sample(reply: Reply, name: str) -> str:
    record = reply.record
    partner = reply.partner or "other"
    when = html.escape(record.source.timestamp[:16].replace("T", " "))
    head = f"<span>{when}</span><span>confidence {record.source.confidence:.2f}</span>"
    return (
        f'<article class="sample"><header>{head}</header>{_history(record, name)}'
        + (_turn("quoted", record.input, "context") if record.input else "")
        + _turn(partner, record.instruction, "")
        + _turn(name, record.output, "own supervised")
        + "</article>"
    )


def _history(record: Record, name: str) -> str:
    if not record.history:
        return ""
    turns = len(record.history)
    inside = "".join(
        _turn("others", asked, "earlier") + _turn(name, said, "own earlier") for asked, said in record.history
    )
    return f"<details><summary>{turns} earlier turn{'s' * (turns > 1)}</summary>{inside}</details>"


def _turn(who: str, text: str, kind: str) -> str:
    return f'<div class="turn {kind}"><span class="who">{html.escape(who)}</span>{html.escape(text)}</div>'
