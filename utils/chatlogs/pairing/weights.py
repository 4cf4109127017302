"""How much each signal counts in scorer.py: log-odds per unit of the signal, positive for an option that gains.

Fitted by `python benchmarks/fit_pairing.py`, which prints the three tables; edit by fitting again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.chatlogs.pairing import own_signals, signals, word_signals
from utils.chatlogs.pairing.evidence import OpeningSignal, Signal


@dataclass(frozen=True)
class Weights:
    """Signal -> weight, for the three kinds of option. A signal that is absent is not computed."""

    reply: Mapping[Signal, float]  # the message answers one by somebody else
    own: Mapping[Signal, float]  # it continues an own message
    opening: Mapping[OpeningSignal, float]  # it answers nothing


REPLY_WEIGHTS = {
    signals.reply_mentions_author: 3.059,
    signals.reply_names_author: 2.925,
    signals.reply_addresses_another: -1.313,
    signals.candidate_mentions_persona: 0.973,
    signals.unaddressed_then_mentioned: 0.410,
    signals.candidate_names_persona: 1.330,
    signals.candidate_addresses_another: -1.341,
    signals.candidate_turned_to_persona: 0.614,
    signals.candidate_turned_to_another: -0.353,
    signals.author_is_partner_by_turns: 0.437,
    signals.persona_addressed_since: -0.342,
    signals.latest_from_addressed: 0.501,
    signals.author_replies_back: 0.765,
    signals.another_answers_back: -0.617,
    signals.persona_addresses_author_later: 0.608,
    signals.author_speaks_next: 0.584,
    signals.author_turns_away: -0.091,
    signals.is_previous_message: -1.019,
    signals.previous_message_in_quiet: 0.652,
    signals.previous_message_then_short: 0.787,
    signals.after_personas_last_in_quiet: 1.521,
    signals.message_gap: -0.591,
    signals.time_gap: -0.455,
    signals.author_spoke_after: -1.038,
    signals.persona_spoke_after: -1.857,
    signals.before_personas_last: 1.148,
    signals.addressed_message_gap: 0.361,
    signals.is_authors_first: 0.284,
    signals.continues_in_burst: 0.334,
    signals.answered_and_addressed: -0.131,
    signals.author_is_current_partner: -0.387,
    signals.new_from_current_partner: 0.808,
    signals.author_is_recent_partner: 0.460,
    signals.new_from_partner: 0.311,
    signals.old_from_partner: 0.149,
    word_signals.question_then_statement: 0.336,
    word_signals.question_then_short_answer: 0.273,
    word_signals.greeting_then_greeting: 1.416,
    word_signals.candidate_is_thanks: -0.324,
    word_signals.candidate_is_short: -0.496,
    word_signals.candidate_is_command: -0.853,
    word_signals.shared_rare_words: 1.716,
    word_signals.topic_words: 0.343,
    word_signals.words_of_personas_last: 0.562,
    word_signals.author_takes_up_words: 0.255,
}
OWN_WEIGHTS = {
    own_signals.own_bias: 3.274,
    own_signals.own_same_addressee: 2.351,
    own_signals.own_addressee_spoke_after: -0.543,
    own_signals.own_same_addressee_silent: 0.290,
    own_signals.own_interrupted_in_quiet: 0.845,
    own_signals.own_within_burst: -0.936,
    own_signals.own_reply_addresses: -0.708,
    own_signals.own_says_you: -0.663,
    own_signals.own_is_command: -2.240,
    own_signals.own_greets_or_thanks: -0.944,
    own_signals.own_short_answer: -1.119,
    own_signals.own_addressed_after: -0.435,
    own_signals.own_correction: 2.061,
    signals.is_previous_message: 0.957,
    signals.message_gap: -0.120,
    signals.time_gap: -0.931,
    signals.persona_spoke_after: -2.386,
    word_signals.shared_rare_words: 1.179,
}
OPENING_WEIGHTS = {
    own_signals.opening_bias: -0.868,
    own_signals.opening_unaddressed_by_habit: -0.086,
    own_signals.opening_in_quiet: -1.617,
    own_signals.opening_is_first: 1.256,
    own_signals.opening_is_question: 1.254,
    own_signals.opening_greets: 2.978,
    own_signals.opening_is_command: 0.860,
    own_signals.opening_says_you: -1.358,
    own_signals.opening_length: 0.728,
}

WEIGHTS = Weights(REPLY_WEIGHTS, OWN_WEIGHTS, OPENING_WEIGHTS)
