"""Which earlier message each message of the persona answers: a log-linear ranking of the candidates.

p(option) = exp(w . signals(option)) / sum of that over all options. The options are recent messages by others, the
persona's own recent messages (it continues one of them) and "nothing" (it opens a conversation). This is the
conditional logit of McFadden (1974). `benchmarks/fit_pairing.py` fits the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from utils.chatlogs import second_process
from utils.chatlogs.pairing import situations
from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.evidence import Candidates, Signal, Situation
from utils.chatlogs.pairing.weights import Weights

SHARED_MESSAGES = 400  # so many messages of the persona take longer than a second process does to start
MIN_REPLY_SHARE = 0.6  # of the probability, before a message counts as a reply
EXPLICIT_CONFIDENCE = 0.99  # a convention: what the author says is taken as true
TWO_PERSON_CONFIDENCE = 0.97  # a guess: no annotated direct messages at hand


@dataclass(slots=True)
class Link:
    """What one message of the persona answers. Probabilities over all three kinds sum to 1."""

    index: int
    replies: dict[int, float] = field(default_factory=dict)  # index of another's message -> probability
    continues: dict[int, float] = field(default_factory=dict)  # index of an own message -> probability
    opens: float = 0.0
    explicit: bool = False
    ranked: bool = False  # by the weighted signals

    def best_reply(self) -> int | None:
        return max(self.replies, key=self.replies.__getitem__, default=None)

    def best_own(self) -> int | None:
        return max(self.continues, key=self.continues.__getitem__, default=None)

    def kind(self) -> str:
        """The likeliest of reply, own and opening; the options of a kind count together. A reply must be rather sure:
        what only continues or opens teaches nothing about answering."""
        reply, own = sum(self.replies.values()), sum(self.continues.values())
        if reply >= MIN_REPLY_SHARE:
            return "reply"
        return "own" if own >= self.opens else "opening"


def link_messages(view: ChannelView, indices: list[int], weights: Weights) -> Iterator[Link]:
    """A Link for each of the persona's messages, in order; `indices` are their places in the channel.

    Of many messages a second process links the later half meanwhile.
    """
    half = _fresh_start(view, indices) if len(indices) >= SHARED_MESSAGES and second_process.is_at_hand() else 0
    if not half:
        yield from _links(view, indices, weights, range(len(indices)))
        return
    with second_process.ahead(_links(view, indices, weights, range(half, len(indices)))) as later:
        yield from _links(view, indices, weights, range(half))
        yield from later


def _fresh_start(view: ChannelView, indices: list[int]) -> int:
    """The place nearest to the middle where nothing before matters; 0 where there is none but the first."""
    starts = [place for place in range(1, len(indices)) if situations.is_over(view, indices[place - 1], indices[place])]
    return min(starts, key=lambda place: abs(2 * place - len(indices)), default=0)


def _links(view: ChannelView, indices: list[int], weights: Weights, places: range) -> Iterator[Link]:
    for situation, replies, owns in situations.in_order(view, indices, places):
        link = explicit_link(view, situation.reply)
        if link is None and view.is_two_person:
            link = two_person_link(situation.reply, replies, owns)
        elif link is None:
            link = rank(situation, replies, owns, weights)
        note(situation, link)
        yield link


def note(situation: Situation, link: Link) -> None:
    """Remembers a decided link for the situations that follow."""
    view, kind = situation.view, link.kind()
    if kind == "reply":
        parent = link.best_reply()
        situation.answered[parent] = link.index
        situation.parent_person[link.index] = view.person[parent]
        situation.last_to[view.person[parent]] = link.index
    elif kind == "own" and link.best_own() in situation.parent_person:
        person = situation.parent_person[link.best_own()]
        situation.parent_person[link.index] = person
        situation.last_to[person] = link.index


def explicit_link(view: ChannelView, index: int) -> Link | None:
    """The link that the author gave by replying; None without one, or where its target is missing."""
    target = view.index_of_id.get(view.messages[index].reply_to)
    if target is None or target >= index:
        return None
    rest = 1 - EXPLICIT_CONFIDENCE
    if view.person[target] == view.person[index]:
        return Link(index, continues={target: EXPLICIT_CONFIDENCE}, opens=rest, explicit=True)
    return Link(index, replies={target: EXPLICIT_CONFIDENCE}, opens=rest, explicit=True)


def two_person_link(index: int, replies: Candidates, owns: Candidates) -> Link:
    """In direct messages everything answers what the other said since; each message half as likely as the next one."""
    fresh = [index for index, own_after in zip(replies.indices, replies.own_after, strict=True) if own_after == 0]
    sure, rest = TWO_PERSON_CONFIDENCE, 1 - TWO_PERSON_CONFIDENCE
    if fresh:
        total = sum(0.5**place for place in range(len(fresh)))
        return Link(index, replies={other: sure * 0.5**k / total for k, other in enumerate(fresh)}, opens=rest)
    if owns.indices:
        return Link(index, continues={owns.indices[0]: sure}, opens=rest)
    return Link(index, opens=1.0)


def rank(s: Situation, replies: Candidates, owns: Candidates, weights: Weights) -> Link:
    """The probability of every option for one message."""
    opening = sum(weight * signal(s) for signal, weight in weights.opening.items())
    scores = np.concatenate([score(weights.reply, s, replies), score(weights.own, s, owns), [opening]])
    masses = np.exp(scores - scores.max())
    shares = (masses / masses.sum()).tolist()
    return Link(
        s.reply,
        dict(zip(replies.indices, shares, strict=False)),
        dict(zip(owns.indices, shares[len(replies.indices) :], strict=False)),
        shares[-1],
        ranked=True,
    )


def score(weights: Mapping[Signal, float], s: Situation, candidates: Candidates) -> np.ndarray:
    """The weighted sum of the signals for every candidate."""
    values = np.zeros((len(weights), len(candidates.indices)))
    if candidates.indices:
        for row, signal in zip(values, weights, strict=True):
            row[:] = signal(s, candidates)
    return (np.array([*weights.values()])[:, None] * values).sum(axis=0)
