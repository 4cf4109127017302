"""Held-out conversations as HTML: a message, and beside one another the true reply, the base's and the tuned one."""

from __future__ import annotations

import html
from collections.abc import Sequence

from utils.evaluation.results import Answered, Reply
from utils.records import Record

CONVERSATIONS_SHOWN = 20

_shown = html.escape


def render(answered: Sequence[Answered]) -> str:
    """The first conversations; all text of people and models is escaped, and kept from turning its surroundings."""
    note = (
        '<p class="soft">Messages that it never saw in training, what the person answered, and what the models did.</p>'
    )
    return f'{note}<div class="conversations">{"".join(map(_conversation, answered[:CONVERSATIONS_SHOWN]))}</div>'


def _conversation(answered: Answered) -> str:
    record = answered.record
    quoted = _turn("quoted", record.input, "context") if record.input else ""
    replies = [_reply("true reply", record.output, "true")]
    if answered.base is not None:
        replies.append(_reply("base", answered.base.text, "base", _remark(answered.base)))
    replies.append(_reply("tuned" if answered.base else "model", answered.tuned.text, "tuned", _remark(answered.tuned)))
    return (
        f'<article class="conversation">{_history(record)}{quoted}{_turn("message", record.instruction, "")}'
        f'<div class="replies">{"".join(replies)}</div></article>'
    )


def _history(record: Record) -> str:
    if not record.history:
        return ""
    turns = record.history
    inside = "".join(_turn("others", asked, "earlier") + _turn("true", said, "own earlier") for asked, said in turns)
    return f"<details><summary>{len(turns)} earlier turn{'s' * (len(turns) > 1)}</summary>{inside}</details>"


def _turn(who: str, text: str, kind: str) -> str:
    return f'<div class="turn {kind}" dir="auto"><span class="who">{_shown(who)}</span><bdi>{_shown(text)}</bdi></div>'


def _reply(who: str, text: str, kind: str, remark: str = "") -> str:
    said = f"<bdi>{_shown(text)}</bdi>" if text else '<span class="soft">(nothing)</span>'
    tail = f'<span class="soft remark">{_shown(remark)}</span>' if remark else ""
    return f'<div class="reply {kind}"><span class="who">{_shown(who)}</span>{said}{tail}</div>'


def _remark(reply: Reply) -> str:
    return "" if reply.ended else "cut off at the length limit"
