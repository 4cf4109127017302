"""Which earlier message each message of the persona answers: a log-linear ranking of the candidates.

p(option) = exp(w . signals(option)) / sum of that over all options. The options are recent messages by others, the
persona's own recent messages (it continues one of them) and "nothing" (it opens a conversation). This is the
conditional logit of McFadden (1974). `benchmarks/fit_pairing.py` fits the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.signals import Candidate, Situation
from utils.chatlogs.pairing.weights import Weights

WINDOW_MESSAGES = 40  # so many messages by others are candidates, the latest first
ADDRESSED_WINDOW_MESSAGES = 200  # messages of the people that the reply addresses are looked for as far back as this
ADDRESSED_LIMIT = 4
OWN_LIMIT = 3  # own messages that can be continued
PARTNER_MEMORY_SECONDS = 1800  # after so long a silence of the persona its open exchanges are over
LATER_SECONDS = 600  # the persona's next few messages tell whom it talks to if they come within this
QUIET_MESSAGES = 12  # the number of people among so many messages says how quiet the channel is
SPEAKS_NEXT_MESSAGES = 8
ANSWERS_BACK_MESSAGES = 20
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

    def best_reply(self) -> int | None:
        return max(self.replies, key=self.replies.__getitem__, default=None)

    def best_own(self) -> int | None:
        return max(self.continues, key=self.continues.__getitem__, default=None)

    def kind(self) -> str:
        """The likeliest of reply, own and opening; the options of a kind count together."""
        mass = {"reply": sum(self.replies.values()), "own": sum(self.continues.values()), "opening": self.opens}
        return max(mass, key=mass.__getitem__)


def link_messages(view: ChannelView, indices: list[int], weights: Weights) -> Iterator[Link]:
    """A Link for each of the persona's messages, in order; `indices` are their places in the channel."""
    for situation, replies, owns in situations(view, indices):
        link = explicit_link(view, situation.reply)
        if link is None and view.is_two_person:
            link = two_person_link(situation.reply, replies, owns)
        elif link is None:
            link = rank(situation, replies, owns, weights)
        note(situation, link)
        yield link


def situations(view: ChannelView, indices: list[int]) -> Iterator[tuple[Situation, list[Candidate], list[Candidate]]]:
    """Each message's situation and candidates. The caller must `note` the link before it asks for the next one."""
    if not indices:
        return
    author = view.person[indices[0]]
    habit = view.address_habit(indices)
    answered: dict[int, int] = {}
    parent_person: dict[int, int] = {}
    before: list[int] = []  # own messages of this session
    last_to: dict[int, int] = {}
    for place, index in enumerate(indices):
        later = indices[place + 1] if place + 1 < len(indices) else None
        if before and (
            view.session[before[-1]] != view.session[index]
            or view.seconds_between(before[-1], index) > PARTNER_MEMORY_SECONDS
        ):
            before, answered, parent_person, last_to = [], {}, {}, {}
        situation = Situation(
            view=view,
            reply=index,
            author=author,
            answered=answered,
            parent_person=parent_person,
            own_before=before[-1] if before else None,
            habit=habit,
            addressed=view.addressed(index),
            last_to=last_to,
            quiet=_quiet(view, index),
        )
        situation.addressed_later = frozenset(
            person
            for own in indices[place + 1 : place + 5]
            if view.seconds_between(index, own) <= LATER_SECONDS
            for person in view.addressed(own)
        )
        situation.speaks_next, situation.turns_away = _speaks_next(view, index)
        situation.answered_back, situation.replied_back = _answers_back(view, index, later)
        yield situation, *candidates(situation, before)
        before.append(index)


def _answers_back(view: ChannelView, index: int, later: int | None) -> tuple[frozenset[int], frozenset[int]]:
    """Who addresses the persona, and who replies to this very message, before the persona's next message."""
    addressing, replying = set(), set()
    end = min(index + 1 + ANSWERS_BACK_MESSAGES, len(view.messages) if later is None else later)
    for other in range(index + 1, end):
        if view.person[index] in view.mentioned[other] or view.person[index] in view.named[other]:
            addressing.add(view.person[other])
        if view.messages[other].reply_to == view.messages[index].id:
            replying.add(view.person[other])
    replying.discard(view.person[index])
    return frozenset(addressing), frozenset(replying)


def _quiet(view: ChannelView, index: int) -> float:
    recent = range(max(0, index - QUIET_MESSAGES), index)
    people = {view.person[i] for i in recent if view.answerable[i] and view.session[i] == view.session[index]}
    people.discard(view.person[index])
    return 1 / max(1, len(people))


def _speaks_next(view: ChannelView, index: int) -> tuple[frozenset[int], frozenset[int]]:
    """Who speaks in the few messages after the reply, split by whether they address third people."""
    speaking, turning = set(), set()
    for other in range(index + 1, min(index + 1 + SPEAKS_NEXT_MESSAGES, len(view.messages))):
        told = view.addressed(other)
        if told and view.person[index] not in told:
            turning.add(view.person[other])
        else:
            speaking.add(view.person[other])
    return frozenset(speaking), frozenset(turning)


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


def two_person_link(index: int, replies: list[Candidate], owns: list[Candidate]) -> Link:
    """In direct messages everything answers what the other said since; each message half as likely as the next one."""
    fresh = [c for c in replies if c.own_after == 0]
    sure, rest = TWO_PERSON_CONFIDENCE, 1 - TWO_PERSON_CONFIDENCE
    if fresh:
        total = sum(0.5**place for place in range(len(fresh)))
        return Link(index, replies={c.index: sure * 0.5**k / total for k, c in enumerate(fresh)}, opens=rest)
    if owns:
        return Link(index, continues={owns[0].index: sure}, opens=rest)
    return Link(index, opens=1.0)


def candidates(s: Situation, own_before: list[int]) -> tuple[list[Candidate], list[Candidate]]:
    """Messages by others, then the persona's own, the latest first, all of the reply's session."""
    view, replies, owns = s.view, [], []
    others = own_after = 0
    spoke: dict[int, int] = {}
    addressed: dict[int, int] = {}
    recent_own = set(own_before[-OWN_LIMIT:])
    for index in range(s.reply - 1, -1, -1):
        if view.session[index] != view.session[s.reply] or others >= ADDRESSED_WINDOW_MESSAGES:
            break
        if others >= WINDOW_MESSAGES and not s.addressed and not recent_own:
            break
        if not view.answerable[index]:
            continue
        person = view.person[index]
        candidate = Candidate(
            index,
            person,
            others,
            spoke.get(person, 0),
            own_after,
            addressed.get(person, 0),
            view.seconds_between(index, s.reply),
        )
        if person == s.author:
            if index in recent_own:
                owns.append(candidate)
                recent_own.discard(index)
            own_after += 1
            continue
        far = others >= WINDOW_MESSAGES
        if not far or (person in s.addressed and candidate.same_author_after < ADDRESSED_LIMIT):
            replies.append(candidate)
        others += 1
        spoke[person] = spoke.get(person, 0) + 1
        for told in view.mentioned[index] or view.named[index]:
            addressed[told] = addressed.get(told, 0) + 1
    return replies, owns


def rank(s: Situation, replies: list[Candidate], owns: list[Candidate], weights: Weights) -> Link:
    """The probability of every option for one message."""
    scores = [score(weights.reply, s, c) for c in replies]
    scores += [score(weights.own, s, c) for c in owns]
    scores.append(score(weights.opening, s))
    top = max(scores)
    masses = [math.exp(value - top) for value in scores]
    total = sum(masses)
    shares = [mass / total for mass in masses]
    return Link(
        s.reply,
        {c.index: share for c, share in zip(replies, shares, strict=False)},
        {c.index: share for c, share in zip(owns, shares[len(replies) :], strict=False)},
        shares[-1],
    )


def score(weights: Mapping, *option: Situation | Candidate) -> float:
    total = 0.0
    for signal, weight in weights.items():  # a loop, not sum() over a generator: it runs some million times
        total += weight * signal(*option)
    return total
