"""The evidence for what a message answers: one small function per signal, each worth 0 when it has nothing to say.

A candidate is an earlier message: by somebody else (the reply answers it) or by the persona (the reply continues it).
A signal looks at all candidates of a reply at once, since there are some million pairs of the two. weights.py says how
much each signal counts.
"""

from __future__ import annotations

import numpy as np

from utils.chatlogs.pairing.channel_view import BURST_SECONDS
from utils.chatlogs.pairing.evidence import Candidates, Situation, Values

SHORT_CHARACTERS = 25

# Who is addressed -------------------------------------------------------------------------------------------------


def reply_mentions_author(s: Situation, c: Candidates) -> Values:
    mentioned = s.view.mentioned[s.reply]
    return c.by(mentioned) if mentioned else 0.0


def reply_names_author(s: Situation, c: Candidates) -> Values:
    named = s.view.named[s.reply]
    return c.by(named) if named else 0.0


def reply_addresses_another(s: Situation, c: Candidates) -> Values:
    return ~c.by(s.addressed) if s.addressed else 0.0


def candidate_mentions_persona(s: Situation, c: Candidates) -> Values:
    return s.view.mentioning(s.author)[c.index]


def candidate_names_persona(s: Situation, c: Candidates) -> Values:
    return s.view.naming(s.author)[c.index]


def candidate_addresses_another(s: Situation, c: Candidates) -> Values:
    return s.view.addresses_somebody[c.index] & ~s.view.addressing(s.author)[c.index]


def candidate_turned_to_persona(s: Situation, c: Candidates) -> Values:
    """It addresses nobody, and its author's last partner is the persona."""
    return ~s.view.addresses_somebody[c.index] & (s.view.partners[c.index] == s.author)


def candidate_turned_to_another(s: Situation, c: Candidates) -> Values:
    partners = s.view.partners[c.index]
    return ~s.view.addresses_somebody[c.index] & (partners != s.author) & (partners >= 0)


def unaddressed_then_mentioned(s: Situation, c: Candidates) -> Values:
    """The reply addresses nobody, and the candidate mentions the persona."""
    return 0.0 if s.addressed else s.view.mentioning(s.author)[c.index]


def author_is_partner_by_turns(s: Situation, c: Candidates) -> Values:
    """The reply addresses nobody, and the persona last talked with the author."""
    partner = s.view.partner[s.reply]
    return 0.0 if s.addressed or partner is None else c.by((partner,))


def persona_addressed_since(s: Situation, c: Candidates) -> Values:
    return c.addressed_after > 0


def latest_from_addressed(s: Situation, c: Candidates) -> Values:
    return c.by(s.addressed) & (c.same_author_after == 0) if s.addressed else 0.0


def author_replies_back(s: Situation, c: Candidates) -> Values:
    return c.by(s.replied_back) if s.replied_back else 0.0


def another_answers_back(s: Situation, c: Candidates) -> Values:
    """Somebody else addresses the persona soon after the reply: what comes later tells as well."""
    return ~c.by(s.answered_back) if s.answered_back else 0.0


def persona_addresses_author_later(s: Situation, c: Candidates) -> Values:
    return c.by(s.addressed_later) if s.addressed_later else 0.0


def author_speaks_next(s: Situation, c: Candidates) -> Values:
    return c.by(s.speaks_next)


def author_turns_away(s: Situation, c: Candidates) -> Values:
    return c.by(s.turns_away) if s.turns_away else 0.0


# Where it stands --------------------------------------------------------------------------------------------------


def is_previous_message(s: Situation, c: Candidates) -> Values:
    return c.others_between == 0


def previous_message_in_quiet(s: Situation, c: Candidates) -> Values:
    return s.quiet * (c.others_between == 0)


def after_personas_last_in_quiet(s: Situation, c: Candidates) -> Values:
    return s.quiet * (c.own_after == 0)


def previous_message_then_short(s: Situation, c: Candidates) -> Values:
    return (c.others_between == 0) & (len(s.view.messages[s.reply].content) < SHORT_CHARACTERS)


def message_gap(s: Situation, c: Candidates) -> Values:
    return np.log1p(c.others_between)


def time_gap(s: Situation, c: Candidates) -> Values:
    return np.log1p(np.maximum(0.0, c.seconds) / 10)


def author_spoke_after(s: Situation, c: Candidates) -> Values:
    return np.log1p(c.same_author_after)


def persona_spoke_after(s: Situation, c: Candidates) -> Values:
    return np.log1p(c.own_after)


def before_personas_last(s: Situation, c: Candidates) -> Values:
    return c.own_after > 0


def addressed_message_gap(s: Situation, c: Candidates) -> Values:
    return np.log1p(c.others_between) * c.by(s.addressed) if s.addressed else 0.0


def is_authors_first(s: Situation, c: Candidates) -> Values:
    """The author was silent for the last while: somebody who comes in."""
    return s.view.is_first_of_author[c.index]


def continues_in_burst(s: Situation, c: Candidates) -> Values:
    """The author's next message follows within seconds, so that this one is not the burst's end."""
    return (c.same_author_after > 0) & (s.view.seconds_to_next_of_author[c.index] <= BURST_SECONDS / 3)


# What was said to it already --------------------------------------------------------------------------------------


def answered_and_addressed(s: Situation, c: Candidates) -> Values:
    if not s.addressed:
        return 0.0
    return np.array([index in s.answered for index in c.indices], dtype=bool) & c.by(s.addressed)


def author_is_current_partner(s: Situation, c: Candidates) -> Values:
    partner = s.parent_person.get(s.own_before)
    return c.by((partner,)) if partner is not None else 0.0


def new_from_current_partner(s: Situation, c: Candidates) -> Values:
    """Said since the persona's last message, by the one whom that answers."""
    partner = s.parent_person.get(s.own_before)
    return c.by((partner,)) & (c.index > s.own_before) if partner is not None else 0.0


def author_is_recent_partner(s: Situation, c: Candidates) -> Values:
    return c.by(set(s.parent_person.values())) if s.parent_person else 0.0


def new_from_partner(s: Situation, c: Candidates) -> Values:
    """Said after the persona's last message to its author."""
    return c.index > np.array([s.last_to.get(person, s.reply) for person in c.people], dtype=int)


def old_from_partner(s: Situation, c: Candidates) -> Values:
    return c.index < np.array([s.last_to.get(person, -1) for person in c.people], dtype=int)
