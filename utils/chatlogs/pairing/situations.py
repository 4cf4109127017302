"""What is the case around each message of the persona, in order: the `Situation` that the signals look at."""

from __future__ import annotations

from collections.abc import Iterator

from utils.chatlogs.pairing.candidates import Candidacy
from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.evidence import Candidates, Situation

PARTNER_MEMORY_SECONDS = 1800  # after so long a silence of the persona its open exchanges are over
LATER_SECONDS = 600  # the persona's next few messages tell whom it talks to if they come within this
QUIET_MESSAGES = 12  # the number of people among so many messages says how quiet the channel is
SPEAKS_NEXT_MESSAGES = 8
ANSWERS_BACK_MESSAGES = 20
WORDS_NEXT_MESSAGES = 12


def in_order(
    view: ChannelView, indices: list[int], places: range | None = None
) -> Iterator[tuple[Situation, Candidates, Candidates]]:
    """Each message's situation and candidates. The caller must `scorer.note` the link before it asks for the next one.

    Only those of `places` among the indices are looked at; nothing before the first of them may matter.
    """
    if not indices:
        return
    author = view.person[indices[0]]
    habit = view.address_habit(indices)
    candidacy = Candidacy(view, author)
    answered: dict[int, int] = {}
    parent_person: dict[int, int] = {}
    before: list[int] = []  # own messages of this session
    last_to: dict[int, int] = {}
    for place in range(len(indices)) if places is None else places:
        index = indices[place]
        later = indices[place + 1] if place + 1 < len(indices) else None
        if before and is_over(view, before[-1], index):
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
        situation.words_next = _words_next(view, index)
        situation.answered_back, situation.replied_back = _answers_back(view, index, later)
        yield situation, *candidacy.find(situation, before)
        before.append(index)


def is_over(view: ChannelView, own: int, later: int) -> bool:
    """Whether all that the persona had to do with anybody is over between two of its messages."""
    return view.session[own] != view.session[later] or view.seconds_between(own, later) > PARTNER_MEMORY_SECONDS


def _answers_back(view: ChannelView, index: int, later: int | None) -> tuple[frozenset[int], frozenset[int]]:
    """Who addresses the persona, and who replies to this very message, before the persona's next message."""
    addressing, replying = set(), set()
    author, message_id = view.person[index], view.messages[index].id
    end = min(index + 1 + ANSWERS_BACK_MESSAGES, len(view.messages) if later is None else later)
    for other in range(index + 1, end):
        if author in view.mentioned[other] or author in view.named[other]:
            addressing.add(view.person[other])
        if view.messages[other].reply_to == message_id:
            replying.add(view.person[other])
    replying.discard(author)
    return frozenset(addressing), frozenset(replying)


def _quiet(view: ChannelView, index: int) -> float:
    recent = range(max(0, index - QUIET_MESSAGES), index)
    people = {view.person[i] for i in recent if view.answerable[i] and view.session[i] == view.session[index]}
    people.discard(view.person[index])
    return 1 / max(1, len(people))


def _speaks_next(view: ChannelView, index: int) -> tuple[frozenset[int], frozenset[int]]:
    """Who speaks in the few messages after the reply, split by whether they address third people."""
    speaking, turning = set(), set()
    author = view.person[index]
    for other in range(index + 1, min(index + 1 + SPEAKS_NEXT_MESSAGES, len(view.messages))):
        told = view.addressed_people[other]
        if told and author not in told:
            turning.add(view.person[other])
        else:
            speaking.add(view.person[other])
    return frozenset(speaking), frozenset(turning)


def _words_next(view: ChannelView, index: int) -> dict[int, frozenset[str]]:
    """What others say in the messages after the reply, but to third people."""
    found: dict[int, frozenset[str]] = {}
    for other in range(index + 1, min(index + 1 + WORDS_NEXT_MESSAGES, len(view.messages))):
        if view.seconds_between(index, other) > LATER_SECONDS:
            break
        person, told = view.person[other], view.addressed_people[other]
        if view.answerable[other] and person != view.person[index] and (not told or view.person[index] in told):
            found[person] = found.get(person, frozenset()) | view.words(other)
    return found
