"""The evidence that a message continues an own earlier one (own_...), or answers nothing (opening_...)."""

from __future__ import annotations

import math

import numpy as np

from utils.chatlogs.pairing.channel_view import BURST_SECONDS
from utils.chatlogs.pairing.evidence import Candidates, Situation, Values


def own_bias(s: Situation, c: Candidates) -> Values:
    return 1.0


def own_same_addressee(s: Situation, c: Candidates) -> Values:
    return np.array([s.parent_person.get(index) in s.addressed for index in c.indices], dtype=bool)


def own_addressee_spoke_after(s: Situation, c: Candidates) -> Values:
    partners = [s.parent_person.get(index) for index in c.indices]
    return np.array(
        [p in s.view.person[index + 1 : s.reply] for index, p in zip(c.indices, partners, strict=True)], bool
    )


def own_same_addressee_silent(s: Situation, c: Candidates) -> Values:
    return own_same_addressee(s, c) & ~own_addressee_spoke_after(s, c)


def own_interrupted_in_quiet(s: Situation, c: Candidates) -> Values:
    """Others spoke in between, and few people are there whom they could have spoken to."""
    return s.quiet * (c.others_between > 0)


def own_within_burst(s: Situation, c: Candidates) -> Values:
    return c.seconds <= BURST_SECONDS


def own_reply_addresses(s: Situation, c: Candidates) -> Values:
    return float(bool(s.addressed))


def own_says_you(s: Situation, c: Candidates) -> Values:
    return opening_says_you(s)


def own_is_command(s: Situation, c: Candidates) -> Values:
    return opening_is_command(s)


def own_greets_or_thanks(s: Situation, c: Candidates) -> Values:
    return float(not {"greeting", "thanks"}.isdisjoint(s.view.forms(s.reply)))


def own_short_answer(s: Situation, c: Candidates) -> Values:
    return float("short_answer" in s.view.forms(s.reply))


def own_addressed_after(s: Situation, c: Candidates) -> Values:
    """Others addressed the persona since."""
    return np.log1p(c.addressed_after)


def own_correction(s: Situation, c: Candidates) -> Values:
    """Starts or ends with an asterisk, as a corrected typing error does."""
    text = s.view.messages[s.reply].content.strip()
    return float(len(text) < 40 and (text.startswith("*") or text.endswith("*")))


# Nothing: the persona opens a conversation --------------------------------------------------------------------------


def opening_bias(s: Situation) -> float:
    return 1.0


def opening_unaddressed_by_habit(s: Situation) -> float:
    return 0.0 if s.addressed else s.habit


def opening_in_quiet(s: Situation) -> float:
    return s.quiet


def opening_is_first(s: Situation) -> float:
    return float(s.own_before is None)


def opening_is_question(s: Situation) -> float:
    return float("question" in s.view.forms(s.reply))


def opening_greets(s: Situation) -> float:
    return float("greeting" in s.view.forms(s.reply))


def opening_is_command(s: Situation) -> float:
    return float("command" in s.view.forms(s.reply))


def opening_says_you(s: Situation) -> float:
    return float(not {"you", "your"}.isdisjoint(s.view.words(s.reply)))


def opening_length(s: Situation) -> float:
    return math.log1p(len(s.view.messages[s.reply].content) / 20)
