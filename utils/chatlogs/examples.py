"""Who speaks in ready-made examples, and the examples without what some of them said.

An example names its speakers where a line starts with `Name:`, and its `source` may hold the ids of its messages.
What somebody said stands in it without a trace where it has neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import msgspec

from utils.chatlogs.people import Person
from utils.chatlogs.sources.discord_csv import id_of_name
from utils.chatlogs.sources.export import is_id
from utils.chatlogs.speakers import ROLE_NAMES, clean_name
from utils.chatlogs.storage import store
from utils.chatlogs.text.names import EVERYDAY_WORDS
from utils.records import Record

if TYPE_CHECKING:
    import duckdb

# What stands before a colon at the start of a text without being anybody's name.
NO_NAMES = ROLE_NAMES | frozenset(
    (
        *("a", "answer", "btw", "context", "edit", "error", "example", "fyi", "hint", "http", "https", "info", "input"),
        *("instruction", "note", "output", "ps", "q", "question", "reply", "response", "task", "tip", "tldr", "todo"),
        *("update", "warning"),
    )
)
MAX_WORDS_IN_NAME = 3

_LABEL = re.compile(r"[^\S\n]{0,3}([^\s:：>|`*#][^:：\n]{0,39}?)[^\S\n]{0,3}[:：](?=\s|\Z)")


def speakers(examples: Sequence[Record], people: Mapping[int, Person], persona: Person) -> dict[int, Person]:
    """Those who speak in the examples and wrote in no export, by a made-up id.

    A turn names its speakers where its first line does; a single everyday word before a colon is no name.
    """
    if not examples:
        return {}
    known = {clean_name(name).casefold() for person in (*people.values(), persona) for name in person.names}
    found: dict[int, Person] = {}
    for example in examples:
        turns = [example.input, *(asked for asked, _ in example.history)]
        if len(example.source.instruction_ids) != 1:  # one message has one speaker, who is not named
            turns.append(example.instruction)
        for name in (name for turn in turns for name in _speakers_of(turn)):
            if name.casefold() not in known:
                person = found.setdefault(key_of(name), Person(key_of(name), nicknames=Counter()))
                person.messages += 1
                person.nicknames[name] += 1
    return found


def key_of(name: str) -> int:
    """A made-up id for a speaker: 48 bits, below every id of Discord's own; capitals make no difference."""
    return id_of_name(f"speaker {name.casefold()}")


def keys_of(people: Iterable[Person]) -> set[int]:
    """The speakers that these people may be."""
    return {key_of(clean_name(name)) for person in people for name in person.names}


def ids_of(examples: Iterable[Record]) -> set[int]:
    """The ids of all messages that the examples say they are made of."""
    return {int(one) for example in examples for one in _ids(example, "instruction", "output", "context")}


def messages_by(connection: duckdb.DuckDBPyConnection, authors: Set[int], examples: Sequence[Record]) -> set[int]:
    """Which messages of the examples stand in the store as written by one of `authors`."""
    rows = connection.execute(
        "SELECT id FROM messages WHERE id IN (SELECT unnest($1::UBIGINT[])) "
        "AND author_id IN (SELECT unnest($2::UBIGINT[]))",
        [sorted(ids_of(examples)), sorted(authors)],
    ).fetchall()
    return {one for (one,) in rows}


def without_forgotten(connection: duckdb.DuckDBPyConnection, examples: list[Record]) -> list[Record]:
    """The examples without what `forgotten` of the store names, and without what the forgotten wrote."""
    forgotten = set(store.forgotten(connection))
    if not (forgotten and examples):
        return examples
    return without(examples, forgotten | messages_by(connection, {store.FORGOTTEN_AUTHOR}, examples))


def without(examples: Sequence[Record], gone: Set[int]) -> list[Record]:
    """The examples without the messages and speakers in `gone`: ids of messages, and `key_of` the speakers.

    An example that asks or answers with their words leaves, a quote of them is emptied, and a turn of the history
    leaves if it is theirs, or was the turn of an example that left.
    """
    if not gone:
        return list(examples)
    leaving = [
        _is_by(example.instruction, gone) or _has(example, gone, "instruction", "output") for example in examples
    ]
    turns = {(one.instruction, one.output) for one, leaves in zip(examples, leaving, strict=True) if leaves}
    kept = []
    for example, leaves in zip(examples, leaving, strict=True):
        if leaves:
            continue
        history = tuple(turn for turn in example.history if turn not in turns and not _is_by(turn[0], gone))
        if len(history) < len(example.history):
            example = msgspec.structs.replace(example, history=history)
        if _is_by(example.input, gone) or _has(example, gone, "context"):
            source = msgspec.structs.replace(example.source, context_ids=())
            example = msgspec.structs.replace(example, input="", source=source)
        kept.append(example)
    return kept


def _ids(example: Record, *kinds: str) -> list[str]:
    return [one for kind in kinds for one in getattr(example.source, f"{kind}_ids") if is_id(one)]


def _has(example: Record, gone: Set[int], *kinds: str) -> bool:
    return any(int(one) in gone for one in _ids(example, *kinds))


def _is_by(turn: str, gone: Set[int]) -> bool:
    return any(key_of(label) in gone for label in _labels(turn))


def _labels(turn: str) -> list[str]:
    if ":" not in turn and "：" not in turn:
        return []
    return [match[1] for match in map(_LABEL.match, turn.split("\n")) if match]


def _speakers_of(turn: str) -> list[str]:
    if not _LABEL.match(turn):
        return []
    names = [
        name for name in _labels(turn) if name.casefold() not in NO_NAMES and len(name.split()) <= MAX_WORDS_IN_NAME
    ]
    several = len({name.casefold() for name in names}) > 1
    return [name for name in names if several or name.casefold() not in EVERYDAY_WORDS]
