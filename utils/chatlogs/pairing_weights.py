"""How much each signal counts in pairing.py: log-odds per unit of the signal, positive for an option that gains.

Fitted by `python benchmarks/fit_pairing.py`, which prints the three tables; edit by fitting again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.chatlogs import own_signals, signals
from utils.chatlogs.signals import OpeningSignal, Signal


@dataclass(frozen=True)
class Weights:
    """Signal -> weight, for the three kinds of option. A signal that is absent is not computed."""

    reply: Mapping[Signal, float]  # the message answers one by somebody else
    own: Mapping[Signal, float]  # it continues an own message
    opening: Mapping[OpeningSignal, float]  # it answers nothing


REPLY_WEIGHTS = {
    signals.reply_mentions_author: 3.052,
    signals.reply_names_author: 2.972,
    signals.reply_addresses_another: -1.772,
    signals.candidate_mentions_persona: 1.583,
    signals.candidate_names_persona: 1.716,
    signals.candidate_addresses_another: -1.345,
    signals.candidate_turned_to_persona: 0.949,
    signals.candidate_turned_to_another: -0.247,
    signals.latest_from_addressed: 0.452,
    signals.author_replies_back: 0.994,
    signals.another_answers_back: -0.667,
    signals.persona_addresses_author_later: 0.605,
    signals.author_speaks_next: 0.507,
    signals.author_turns_away: -0.243,
    signals.is_previous_message: -0.618,
    signals.message_gap: -0.561,
    signals.time_gap: -0.265,
    signals.author_spoke_after: -1.149,
    signals.persona_spoke_after: -1.999,
    signals.before_personas_last: 0.299,
    signals.addressed_message_gap: 0.226,
    signals.is_authors_first: 0.219,
    signals.continues_in_burst: 0.309,
    signals.answered_and_addressed: -0.270,
    signals.author_is_current_partner: 0.480,
    signals.author_is_recent_partner: 0.540,
    signals.new_from_partner: 0.314,
    signals.old_from_partner: 0.225,
    signals.question_then_statement: 0.359,
    signals.question_then_short_answer: 0.311,
    signals.greeting_then_greeting: 1.512,
    signals.candidate_is_thanks: -0.345,
    signals.candidate_is_short: -0.520,
    signals.candidate_is_command: -0.657,
    signals.shared_rare_words: 1.943,
    signals.topic_words: 0.447,
}
OWN_WEIGHTS = {
    own_signals.own_bias: 3.094,
    own_signals.own_same_addressee: 3.256,
    own_signals.own_addressee_spoke_after: -0.588,
    own_signals.own_same_addressee_silent: 0.535,
    own_signals.own_within_burst: -0.873,
    own_signals.own_reply_addresses: -1.207,
    own_signals.own_says_you: -0.685,
    own_signals.own_is_command: -2.114,
    own_signals.own_greets_or_thanks: -0.893,
    own_signals.own_short_answer: -1.186,
    own_signals.own_addressed_after: -0.524,
    own_signals.own_correction: 1.390,
    signals.is_previous_message: 0.802,
    signals.message_gap: -0.117,
    signals.time_gap: -0.786,
    signals.persona_spoke_after: -2.408,
    signals.shared_rare_words: 1.171,
}
OPENING_WEIGHTS = {
    own_signals.opening_bias: -1.454,
    own_signals.opening_unaddressed_by_habit: 0.438,
    own_signals.opening_is_first: 1.615,
    own_signals.opening_is_question: 1.144,
    own_signals.opening_greets: 2.865,
    own_signals.opening_is_command: 1.020,
    own_signals.opening_says_you: -1.277,
    own_signals.opening_length: 0.873,
}

WEIGHTS = Weights(REPLY_WEIGHTS, OWN_WEIGHTS, OPENING_WEIGHTS)
