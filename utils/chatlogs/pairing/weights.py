"""How much each signal counts in pairing.py: log-odds per unit of the signal, positive for an option that gains.

Fitted by `python benchmarks/fit_pairing.py`, which prints the three tables; edit by fitting again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.chatlogs.pairing import own_signals, signals
from utils.chatlogs.pairing.evidence import OpeningSignal, Signal


@dataclass(frozen=True)
class Weights:
    """Signal -> weight, for the three kinds of option. A signal that is absent is not computed."""

    reply: Mapping[Signal, float]  # the message answers one by somebody else
    own: Mapping[Signal, float]  # it continues an own message
    opening: Mapping[OpeningSignal, float]  # it answers nothing


REPLY_WEIGHTS = {
    signals.reply_mentions_author: 3.201,
    signals.reply_names_author: 3.082,
    signals.reply_addresses_another: -1.356,
    signals.candidate_mentions_persona: 1.478,
    signals.candidate_names_persona: 1.566,
    signals.candidate_addresses_another: -1.305,
    signals.candidate_turned_to_persona: 0.827,
    signals.candidate_turned_to_another: -0.276,
    signals.latest_from_addressed: 0.555,
    signals.author_replies_back: 0.801,
    signals.another_answers_back: -0.686,
    signals.persona_addresses_author_later: 0.620,
    signals.author_speaks_next: 0.561,
    signals.author_turns_away: -0.155,
    signals.is_previous_message: -0.631,
    signals.previous_message_in_quiet: 0.348,
    signals.after_personas_last_in_quiet: 1.739,
    signals.message_gap: -0.548,
    signals.time_gap: -0.416,
    signals.author_spoke_after: -1.153,
    signals.persona_spoke_after: -1.974,
    signals.before_personas_last: 0.631,
    signals.addressed_message_gap: 0.302,
    signals.is_authors_first: 0.313,
    signals.continues_in_burst: 0.395,
    signals.answered_and_addressed: -0.271,
    signals.author_is_current_partner: 0.350,
    signals.author_is_recent_partner: 0.507,
    signals.new_from_partner: 0.308,
    signals.old_from_partner: 0.199,
    signals.question_then_statement: 0.359,
    signals.question_then_short_answer: 0.303,
    signals.greeting_then_greeting: 1.495,
    signals.candidate_is_thanks: -0.321,
    signals.candidate_is_short: -0.531,
    signals.candidate_is_command: -0.782,
    signals.shared_rare_words: 1.804,
    signals.topic_words: 0.361,
}
OWN_WEIGHTS = {
    own_signals.own_bias: 3.110,
    own_signals.own_same_addressee: 2.859,
    own_signals.own_addressee_spoke_after: -0.586,
    own_signals.own_same_addressee_silent: 0.349,
    own_signals.own_interrupted_in_quiet: 0.765,
    own_signals.own_within_burst: -0.942,
    own_signals.own_reply_addresses: -0.643,
    own_signals.own_says_you: -0.692,
    own_signals.own_is_command: -2.358,
    own_signals.own_greets_or_thanks: -0.837,
    own_signals.own_short_answer: -1.203,
    own_signals.own_addressed_after: -0.625,
    own_signals.own_correction: 1.471,
    signals.is_previous_message: 0.990,
    signals.message_gap: -0.000,
    signals.time_gap: -0.946,
    signals.persona_spoke_after: -2.417,
    signals.shared_rare_words: 1.188,
}
OPENING_WEIGHTS = {
    own_signals.opening_bias: -0.675,
    own_signals.opening_unaddressed_by_habit: -0.537,
    own_signals.opening_in_quiet: -2.523,
    own_signals.opening_is_first: 1.445,
    own_signals.opening_is_question: 1.158,
    own_signals.opening_greets: 3.080,
    own_signals.opening_is_command: 0.827,
    own_signals.opening_says_you: -1.224,
    own_signals.opening_length: 0.848,
}

WEIGHTS = Weights(REPLY_WEIGHTS, OWN_WEIGHTS, OPENING_WEIGHTS)
