"""Channels -> the persona's replies as records, with a count of everything that was left out on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from utils.chatlogs.channels import Channel
from utils.chatlogs.conversations import PairingSettings, build_exchanges
from utils.chatlogs.people import Person, find_person
from utils.chatlogs.repetition import cap_repeated
from utils.chatlogs.selection import Counts, select
from utils.chatlogs.settings import PrepareSettings, default_system_prompt
from utils.chatlogs.turns import Reply, TurnWriter, clean_name
from utils.console import UserError


@dataclass
class Harvest:
    """`exchanges` counts the replies found; `dropped` says why some made no record, `masked` what was replaced."""

    replies: list[Reply] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    exchanges: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)


def collect(
    channels: Sequence[Channel], people: Mapping[int, Person], persona: Person, settings: PrepareSettings
) -> Harvest:
    """Every reply of the persona that passes the settings, channel by channel, in the order of time.

    Raises UserError for an excluded author whom nobody, or several people, fit, and for the persona among them.
    """
    excluded = frozenset(find_person(people, name, "EXCLUDE_AUTHORS").id for name in settings.exclude_authors)
    if persona.id in excluded:
        raise UserError(f"the persona can't be among EXCLUDE_AUTHORS, but {persona.name} is")
    writer = TurnWriter(
        people=people,
        persona=persona,
        system_prompt=settings.system_prompt or default_system_prompt(clean_name(persona.name)),
        channel_names={channel.info.id: clean_name(channel.info.name) for channel in channels},
        excluded_ids=excluded,
        min_reply_words=settings.min_reply_words,
        max_reply_characters=settings.max_reply_characters,
        min_reactions=settings.min_reactions,
    )
    pairing = PairingSettings(
        session_gap_minutes=settings.session_gap_minutes,
        burst_gap_seconds=settings.burst_gap_seconds,
        max_history_turns=settings.max_history_turns,
        min_confidence=settings.min_confidence,
    )
    harvest = Harvest(masked=writer.masked)
    for channel in channels:
        messages = select(channel.messages, persona.id, harvest.counts)
        if not any(message.author_id == persona.id for message in messages):
            continue
        exchanges, left_out = build_exchanges(messages, persona.id, pairing)
        left_out.pop("not_own_words", None)  # `select` has counted these by kind
        harvest.counts.persona.update(left_out)
        harvest.counts.persona["chat"] -= left_out.total()
        harvest.exchanges += len(exchanges)
        for exchange in exchanges:
            reply = writer.write(exchange, channel)
            if isinstance(reply, str):
                harvest.dropped[reply] += 1
            else:
                harvest.replies.append(reply)
    harvest.replies.sort(key=lambda reply: (reply.unix_ms, reply.record.source.output_ids))
    capped = cap_repeated(harvest.replies, settings.max_same_reply)
    harvest.dropped["repeated_reply"] = len(harvest.replies) - len(capped)
    harvest.replies = capped
    return harvest
