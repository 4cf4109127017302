"""The evidence that a message continues an own earlier one (own_...), or answers nothing (opening_...)."""

from __future__ import annotations

import math

from utils.chatlogs.pairing.channel_view import BURST_SECONDS
from utils.chatlogs.pairing.signals import Candidate, Situation


def own_bias(s: Situation, c: Candidate) -> float:
    return 1.0


def own_same_addressee(s: Situation, c: Candidate) -> float:
    return float(bool(s.addressed) and s.parent_person.get(c.index) in s.addressed)


def own_addressee_spoke_after(s: Situation, c: Candidate) -> float:
    return float(_partner_spoke_after(s, c))


def own_same_addressee_silent(s: Situation, c: Candidate) -> float:
    return own_same_addressee(s, c) * (not _partner_spoke_after(s, c))


def _partner_spoke_after(s: Situation, c: Candidate) -> bool:
    partner = s.parent_person.get(c.index)
    return partner is not None and partner in s.view.person[c.index + 1 : s.reply]


def own_interrupted_in_quiet(s: Situation, c: Candidate) -> float:
    """Others spoke in between, and few people are there whom they could have spoken to."""
    return s.quiet * (c.others_between > 0)


def own_within_burst(s: Situation, c: Candidate) -> float:
    return float(c.seconds <= BURST_SECONDS)


def own_reply_addresses(s: Situation, c: Candidate) -> float:
    return float(bool(s.addressed))


def own_says_you(s: Situation, c: Candidate) -> float:
    return opening_says_you(s)


def own_is_command(s: Situation, c: Candidate) -> float:
    return opening_is_command(s)


def own_greets_or_thanks(s: Situation, c: Candidate) -> float:
    return float(not {"greeting", "thanks"}.isdisjoint(s.view.forms(s.reply)))


def own_short_answer(s: Situation, c: Candidate) -> float:
    return float("short_answer" in s.view.forms(s.reply))


def own_addressed_after(s: Situation, c: Candidate) -> float:
    """Others addressed the persona since."""
    return math.log1p(c.addressed_after)


def own_correction(s: Situation, c: Candidate) -> float:
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
