"""Channels -> the persona's replies as records, with a count of everything that was left out on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from utils.chatlogs import dialogues
from utils.chatlogs import examples as ready_made
from utils.chatlogs.pairing import continuations
from utils.chatlogs.pairing.conversations import PairingSettings, build_exchanges
from utils.chatlogs.people import Person, find_person
from utils.chatlogs.quality import filters
from utils.chatlogs.reporting.activity import Months, by_month
from utils.chatlogs.settings import PrepareSettings, default_system_prompt
from utils.chatlogs.speakers import Speakers, clean_name
from utils.chatlogs.storage import channels
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.storage.selection import Counts
from utils.chatlogs.storage.store import FORGOTTEN_AUTHOR
from utils.chatlogs.text.names import Pseudonyms
from utils.chatlogs.turns import Reply, TurnWriter
from utils.console import UserError
from utils.records import Record

if TYPE_CHECKING:
    import duckdb


@dataclass
class Harvest:
    """`exchanges` counts the replies found; `dropped` says why some made no record, `masked` what was replaced."""

    replies: list[Reply] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    exchanges: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    months: Months = field(default_factory=dict)


def collect(
    connection: duckdb.DuckDBPyConnection,
    people: Mapping[int, Person],
    persona: Person,
    settings: PrepareSettings,
    examples: Sequence[Record] = (),
) -> Harvest:
    """Every reply of the persona that passes the settings, channel by channel, in the order of time, and the examples.

    Raises UserError where there is nothing but the persona's own messages and no CONTINUATIONS are asked for, for an
    excluded author whom nobody, or several people, fit, and for the persona among them.
    """
    people = {**people, **ready_made.speakers(examples, people, persona)}
    excluded = frozenset(find_person(people, name, "EXCLUDE_AUTHORS").id for name in settings.exclude_authors)
    if persona.id in excluded:
        raise UserError(f"the persona can't be among EXCLUDE_AUTHORS, but {persona.name} is")
    speakers = Speakers(
        people,
        persona,
        channel_names={info.id: clean_name(info.name) for info in channels.infos(connection, excluded).values()},
        pseudonyms=Pseudonyms(people, persona) if settings.names == "pseudonyms" else None,
    )
    writer = TurnWriter(
        speakers,
        settings.system_prompt or default_system_prompt(clean_name(persona.name)),
        excluded_ids=excluded | {FORGOTTEN_AUTHOR},
        min_reply_words=settings.min_reply_words,
        max_reply_characters=settings.max_reply_characters,
        min_reactions=settings.min_reactions,
    )
    counts, pieces = channels.around(connection, persona.id, excluded)
    harvest = Harvest(counts=counts, masked=writer.masked, months=by_month(connection, persona.id))
    _add_conversations(harvest, pieces, writer, settings, alone_is_enough=settings.continuations or bool(examples))
    gone = ready_made.keys_of(people[one] for one in excluded) | ready_made.messages_by(connection, excluded, examples)
    _add_examples(harvest, examples, gone, speakers, settings)
    harvest.replies.sort(key=lambda reply: (reply.unix_ms, reply.record.source.output_ids))
    harvest.replies, dropped = filters.choose(harvest.replies, settings)
    harvest.dropped.update(dropped)
    return harvest


def _add_conversations(
    harvest: Harvest, pieces: Iterable[Channel], writer: TurnWriter, settings: PrepareSettings, *, alone_is_enough: bool
) -> None:
    """Pairs the messages of each channel, and writes what pairs."""
    persona = writer.speakers.persona
    pairing = PairingSettings(
        session_gap_minutes=settings.session_gap_minutes,
        burst_gap_seconds=settings.burst_gap_seconds,
        max_history_turns=settings.max_history_turns,
        min_confidence=settings.min_confidence,
    )
    spoken_in: set[int] = set()
    alone_in: set[int] = set()
    continued = 0
    for channel in pieces:
        messages = channel.messages
        spoken_in.add(channel.info.id)
        if channel.persona_alone:
            alone_in.add(channel.info.id)
        if channel.persona_alone and settings.continuations:
            exchanges = continuations.build(messages, settings.burst_gap_seconds)
            left_out = Counter(opening=len(messages) - len(exchanges))
            continued += len(exchanges)
        else:
            exchanges, left_out = build_exchanges(messages, persona.id, pairing)
        left_out.pop("not_own_words", None)  # storage.selection has counted these by kind
        harvest.counts.persona.update(left_out)
        harvest.counts.persona["chat"] -= left_out.total()
        harvest.exchanges += len(exchanges)
        for exchange in exchanges:
            reply = writer.write(exchange, channel)
            if isinstance(reply, str):
                harvest.dropped[reply] += 1
            else:
                harvest.replies.append(reply)
    if spoken_in and spoken_in == alone_in and not alone_is_enough:
        raise UserError(continuations.no_prompts(persona.name))
    harvest.warnings += continuations.warnings(persona.name, len(alone_in), continued)


def _add_examples(
    harvest: Harvest, examples: Sequence[Record], gone: Set[int], speakers: Speakers, settings: PrepareSettings
) -> None:
    """The ready-made examples, without what the people and messages in `gone` said."""
    allowed = ready_made.without(examples, gone)
    harvest.dropped["excluded_author"] += len(examples) - len(allowed)
    harvest.warnings += dialogues.warnings(examples, settings)
    replies, dropped, masked = dialogues.write(
        allowed, clean_name(speakers.persona.name), settings, speakers.pseudonyms
    )
    harvest.replies += replies
    harvest.exchanges += len(examples)
    harvest.dropped.update(dropped)
    harvest.masked.update(masked)
