"""Who wrote in the exports: a person is an id, whatever the names; the persona is one of them."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from utils import console
from utils.chatlogs.message import Message
from utils.console import UserError

if TYPE_CHECKING:
    import duckdb

MANY_PEOPLE = "Deleted User"  # Discord gives one id to all who left


@dataclass
class Person:
    id: int
    messages: int = 0
    is_bot: bool = False
    account_names: Counter[str] = field(default_factory=Counter)
    nicknames: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The name that people see most often: a nickname, else the account's."""
        (name, _), *_ = (self.nicknames or self.account_names).most_common(1) or [(str(self.id), 0)]
        return name

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.nicknames, *self.account_names]))


def person_key(message: Message) -> tuple[int, str]:
    """An id is a person, whatever the name; deleted accounts and webhooks share an id, so there the name counts too."""
    if message.is_bot or message.author_name == MANY_PEOPLE:
        return (message.author_id, message.author_name + "\0" + message.author_nickname)
    return (message.author_id, "")


def list_people(connection: duckdb.DuckDBPyConnection) -> dict[int, Person]:
    """Everybody who wrote a message, by id, as they first come; text written by Discord itself doesn't count."""
    rows = connection.execute(
        "SELECT author_id, is_bot, author_name, author_nickname, count(*) FROM messages "
        "WHERE NOT is_system AND form <> 'forgotten' GROUP BY channel_id, 1, 2, 3, 4 ORDER BY channel_id, min(id)"
    ).fetchall()
    people: dict[int, Person] = {}
    for author_id, is_bot, account_name, nickname, count in rows:
        person = people.setdefault(author_id, Person(author_id))
        person.messages += count
        person.is_bot |= is_bot
        if account_name.strip():
            person.account_names[account_name] += count
        if nickname.strip():
            person.nicknames[nickname] += count
    return people


def find_persona(people: dict[int, Person], wanted: str | None) -> Person:
    """The person meant by an id, a name or a nickname.

    Raises UserError where nobody is named (after printing the ten most active), nobody fits, several fit, or the one
    who fits is a bot or stands for many people.
    """
    if wanted is None:
        show_most_active(people)
        raise UserError("no persona chosen: set PERSONA in prepare_training_data.py, or pass --persona NAME_OR_ID")
    person = find_person(people, wanted, "--persona")
    if person.is_bot:
        raise UserError(f"{wanted} is a bot ({person.messages} messages); choose a person as the persona")
    if MANY_PEOPLE in person.account_names:
        raise UserError(f"{wanted} stands for everybody who deleted the account; choose one person as the persona")
    return person


def find_person(people: dict[int, Person], wanted: str, setting: str) -> Person:
    """Raises UserError naming the candidates where several people fit, and the nearest names where nobody does."""
    name = wanted.strip().removeprefix("@")
    if name.isascii() and name.isdigit() and int(name) in people:
        return people[int(name)]
    fitting = [person for person in people.values() if name in person.names]
    if not fitting:
        fitting = [person for person in people.values() if name.casefold() in map(str.casefold, person.names)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        fitting.sort(key=lambda person: (-person.messages, person.id))
        candidates = "; ".join(f"{p.id} ({', '.join(p.names)}: {p.messages} messages)" for p in fitting)
        raise UserError(f"{wanted!r} fits several people, so pass {setting} with an id: {candidates}")
    known: dict[str, str] = {}
    for person in sorted(people.values(), key=lambda person: (-person.messages, person.id)):
        known.update((name.casefold(), name) for name in reversed(person.names) if name.casefold() not in known)
    containing = [key for key in known if name and name.casefold() in key][:3]  # half a name is soon typed
    close = [known[key] for key in containing or difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.6)]
    advice = f"did you mean {' or '.join(close)}?" if close else "without --persona the most active people are listed"
    raise UserError(f"nobody called {wanted!r} wrote in these exports; {advice}")


def show_most_active(people: dict[int, Person], limit: int = 10) -> None:
    choosable = [p for p in people.values() if not p.is_bot and MANY_PEOPLE not in p.account_names]
    authors = sorted(choosable, key=lambda p: (-p.messages, p.id))[:limit]
    console.heading("Most active authors")
    rows = [
        (person.name, ", ".join(name for name in person.names if name != person.name), person.id, person.messages)
        for person in authors
    ]
    console.table(["name", "also known as", "id", "messages"], rows, numeric=[2, 3])
