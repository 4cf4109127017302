"""Who is called what in the records, and which lines pretend to be somebody's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from utils.chatlogs.message import Message
from utils.chatlogs.people import MANY_PEOPLE, Person
from utils.chatlogs.text import cleaning
from utils.chatlogs.text.names import Pseudonyms
from utils.privacy import masking

ROLE_NAMES = frozenset(["user", "assistant", "system", "human", "bot", "ai"])  # what a forged line may start with, too

_LABEL = re.compile(r"\s{0,8}([^:：\n]{1,40}?)\s{0,8}[:：]")


@dataclass
class Speakers:
    """The names of people and channels as the records show them; with `pseudonyms`, invented ones for all but the
    persona."""

    people: Mapping[int, Person]
    persona: Person
    channel_names: Mapping[int, str]
    pseudonyms: Pseudonyms | None = None

    def __post_init__(self) -> None:
        self._labels = {name.casefold() for person in self.people.values() for name in person.names} | ROLE_NAMES
        if self.pseudonyms is not None:
            self._labels |= {name.casefold() for name in self.pseudonyms.all}
        self._names: dict[int, str] = {}
        self._all_names: dict[int, list[str]] = {}

    def label(self, message: Message) -> str:
        """The name before the message's lines."""
        if message.is_bot or message.author_name == MANY_PEOPLE:
            if self.pseudonyms is not None:
                return self.pseudonyms.name(message.author_id, message.author_nickname or message.author_name)
            return clean_name(message.author_nickname or message.author_name)
        return self.name(message.author_id) or clean_name(message.author_name)

    def name(self, person_id: int) -> str:
        """The name that people see, or "" for an id that wrote nothing."""
        if person_id not in self._names:
            person = self.people.get(person_id)
            if person is None or self.pseudonyms is None or person_id == self.persona.id:
                self._names[person_id] = clean_name(person.name) if person else ""
            else:
                self._names[person_id] = self.pseudonyms.name(person_id)
        return self._names[person_id]

    def all_names(self, person_id: int) -> list[str]:
        """What the person is called, in small letters, the longest first; nothing for an id that wrote nothing."""
        if person_id not in self.people:
            return []
        if person_id not in self._all_names:
            known = {*self.people[person_id].names, self.name(person_id)} - {""}
            self._all_names[person_id] = sorted(map(str.lower, known), key=lambda name: (-len(name), name))
        return self._all_names[person_id]

    def channel_name(self, channel_id: int) -> str:
        """The channel's name, or "" for one that is not in the exports."""
        return self.without_names(self.channel_names.get(channel_id, ""))

    def without_names(self, text: str) -> str:
        """The text with invented names in place of other people's, where that is wished."""
        return text if self.pseudonyms is None else self.pseudonyms.replace(text)

    def unforged(self, line: str) -> str:
        """A line that pretends to be somebody's: quoted, so that it starts with nobody's name."""
        label = _LABEL.match(line)
        return f"> {line}" if label and label[1].casefold() in self._labels else line


def clean_name(name: str) -> str:
    """A name that fits in one line and can't end its own label."""
    name = cleaning.remove_invisible(name).replace("\n", " ").replace(":", " ").strip()
    return cleaning.split_control_tokens(masking.mask(name)[0])
