"""The evidence for what a message answers: one small function per signal, each worth 0 when it has nothing to say.

A candidate is an earlier message: by somebody else (the reply answers it) or by the persona (the reply continues it).
pairing_weights.py says how much each signal counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from utils.chatlogs.pairing.channel_view import BURST_SECONDS, ChannelView


@dataclass(slots=True)
class Situation:
    """A message of the persona whose parent is sought, and what the persona did before it in the session."""

    view: ChannelView
    reply: int  # index of the message
    author: int
    answered: dict[int, int]  # index of another's message -> index of the persona's message that answered it
    parent_person: dict[int, int]  # index of a persona's message -> the person it was found to answer
    own_before: int | None  # index of the persona's previous message
    habit: float  # share of the persona's messages that mention somebody, 0..1
    addressed: frozenset[int] = frozenset()  # people whom the reply mentions or names
    answered_back: frozenset[int] = frozenset()  # people who address the persona soon after the reply
    quiet: float = 0.0  # 1 / number of other people among the last messages: 1 where only one other person speaks
    last_to: dict[int, int] = field(default_factory=dict)  # person -> the persona's last message that answers them
    addressed_later: frozenset[int] = frozenset()  # people whom the persona's next few messages address
    speaks_next: frozenset[int] = frozenset()  # people who speak right after the reply, and not to third people
    turns_away: frozenset[int] = frozenset()  # people who address third people right after the reply
    replied_back: frozenset[int] = frozenset()  # people who answer this message with an explicit reply


@dataclass(slots=True)
class Candidate:
    """An earlier message and where it stands. Counts are over the messages between it and the reply."""

    index: int
    person: int
    others_between: int  # messages by others
    same_author_after: int  # messages by the candidate's author
    own_after: int  # messages by the persona
    addressed_after: int  # messages by third people that address the candidate's author
    seconds: float


Signal = Callable[[Situation, Candidate], float]
OpeningSignal = Callable[[Situation], float]


# Who is addressed -------------------------------------------------------------------------------------------------


def reply_mentions_author(s: Situation, c: Candidate) -> float:
    return float(c.person in s.view.mentioned[s.reply])


def reply_names_author(s: Situation, c: Candidate) -> float:
    return float(c.person in s.view.named[s.reply])


def reply_addresses_another(s: Situation, c: Candidate) -> float:
    return float(bool(s.addressed) and c.person not in s.addressed)


def candidate_mentions_persona(s: Situation, c: Candidate) -> float:
    return float(s.author in s.view.mentioned[c.index])


def candidate_names_persona(s: Situation, c: Candidate) -> float:
    return float(s.author in s.view.named[c.index])


def candidate_addresses_another(s: Situation, c: Candidate) -> float:
    told = s.view.mentioned[c.index] or s.view.named[c.index]
    return float(bool(told) and s.author not in told)


def candidate_turned_to_persona(s: Situation, c: Candidate) -> float:
    """It addresses nobody, and its author's last partner is the persona."""
    return float(_silent(s, c) and s.view.partner[c.index] == s.author)


def candidate_turned_to_another(s: Situation, c: Candidate) -> float:
    return float(_silent(s, c) and s.view.partner[c.index] not in (None, s.author))


def _silent(s: Situation, c: Candidate) -> bool:
    return not (s.view.mentioned[c.index] or s.view.named[c.index])


def latest_from_addressed(s: Situation, c: Candidate) -> float:
    return float(c.person in s.addressed and c.same_author_after == 0)


def author_replies_back(s: Situation, c: Candidate) -> float:
    return float(c.person in s.replied_back)


def another_answers_back(s: Situation, c: Candidate) -> float:
    """Somebody else addresses the persona soon after the reply: what comes later tells as well."""
    return float(bool(s.answered_back) and c.person not in s.answered_back)


def persona_addresses_author_later(s: Situation, c: Candidate) -> float:
    return float(c.person in s.addressed_later)


def author_speaks_next(s: Situation, c: Candidate) -> float:
    return float(c.person in s.speaks_next)


def author_turns_away(s: Situation, c: Candidate) -> float:
    return float(c.person in s.turns_away)


# Where it stands --------------------------------------------------------------------------------------------------


def is_previous_message(s: Situation, c: Candidate) -> float:
    return float(c.others_between == 0)


def previous_message_in_quiet(s: Situation, c: Candidate) -> float:
    return s.quiet * (c.others_between == 0)


def after_personas_last_in_quiet(s: Situation, c: Candidate) -> float:
    return s.quiet * (c.own_after == 0)


def message_gap(s: Situation, c: Candidate) -> float:
    return math.log1p(c.others_between)


def time_gap(s: Situation, c: Candidate) -> float:
    return math.log1p(max(0.0, c.seconds) / 10)


def author_spoke_after(s: Situation, c: Candidate) -> float:
    return math.log1p(c.same_author_after)


def persona_spoke_after(s: Situation, c: Candidate) -> float:
    return math.log1p(c.own_after)


def before_personas_last(s: Situation, c: Candidate) -> float:
    return float(c.own_after > 0)


def addressed_message_gap(s: Situation, c: Candidate) -> float:
    return math.log1p(c.others_between) if c.person in s.addressed else 0.0


def is_authors_first(s: Situation, c: Candidate) -> float:
    """The author was silent for the last while: somebody who comes in."""
    return float(s.view.is_first_of_author(c.index))


def continues_in_burst(s: Situation, c: Candidate) -> float:
    """The author's next message follows within seconds, so that this one is not the burst's end."""
    return float(c.same_author_after > 0 and s.view.seconds_to_next_of_author(c.index) <= BURST_SECONDS / 3)


# What was said to it already --------------------------------------------------------------------------------------


def answered_and_addressed(s: Situation, c: Candidate) -> float:
    return float(c.index in s.answered and c.person in s.addressed)


def author_is_current_partner(s: Situation, c: Candidate) -> float:
    return float(s.own_before is not None and s.parent_person.get(s.own_before) == c.person)


def author_is_recent_partner(s: Situation, c: Candidate) -> float:
    return float(c.person in s.parent_person.values())


def new_from_partner(s: Situation, c: Candidate) -> float:
    """Said after the persona's last message to its author."""
    return float(c.index > s.last_to.get(c.person, s.reply))


def old_from_partner(s: Situation, c: Candidate) -> float:
    return float(c.index < s.last_to.get(c.person, -1))


# Form and words ---------------------------------------------------------------------------------------------------


def question_then_statement(s: Situation, c: Candidate) -> float:
    return float("question" in s.view.forms(c.index) and "question" not in s.view.forms(s.reply))


def question_then_short_answer(s: Situation, c: Candidate) -> float:
    return float("question" in s.view.forms(c.index) and "short_answer" in s.view.forms(s.reply))


def greeting_then_greeting(s: Situation, c: Candidate) -> float:
    return float("greeting" in s.view.forms(c.index) and "greeting" in s.view.forms(s.reply))


def candidate_is_thanks(s: Situation, c: Candidate) -> float:
    return float("thanks" in s.view.forms(c.index))


def candidate_is_short(s: Situation, c: Candidate) -> float:
    return float("short" in s.view.forms(c.index))


def candidate_is_command(s: Situation, c: Candidate) -> float:
    return float("command" in s.view.forms(c.index))


def shared_rare_words(s: Situation, c: Candidate) -> float:
    """Summed rarity of the words in both messages, at most 2."""
    shared = s.view.words(s.reply) & s.view.words(c.index)
    return min(2.0, sum(s.view.rarity(word) for word in shared)) if shared else 0.0


def topic_words(s: Situation, c: Candidate) -> float:
    """The same over what the author said just before."""
    before = s.view.words_before(c.index) - s.view.words(c.index)
    shared = s.view.words(s.reply) & before
    return min(2.0, sum(s.view.rarity(word) for word in shared)) if shared else 0.0
