"""Exchange -> Record: the messages of a turn become its text.

A turn's text depends on its messages (and on who the persona is) alone, so a turn reads the same as a prompt and,
later, in the history: the records of one conversation share their beginnings to the letter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.conversations import Exchange
from utils.chatlogs.people import MANY_PEOPLE, Person
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.text import cleaning
from utils.chatlogs.text.names import Pseudonyms
from utils.privacy import masking
from utils.records import Record, Source

ROLE_NAMES = frozenset(["user", "assistant", "system", "human", "bot", "ai"])  # what a forged line may start with, too

_LABEL = re.compile(r"\s{0,8}([^:：\n]{1,40}?)\s{0,8}[:：]")


@dataclass(frozen=True)
class Reply:
    """A record, and the ids of every message in it, by what the split must know of them."""

    record: Record
    unix_ms: int
    turn_ids: frozenset[int]  # instruction, output and history
    context_ids: frozenset[int]
    partner: str = ""  # whom it answers, by the name that the record shows; "" where that is unknown


@dataclass
class TurnWriter:
    """Writes turns as text, each once. `masked` counts what masking.py replaced in them, by kind; with `pseudonyms`,
    names.py replaces the names of others.
    """

    people: Mapping[int, Person]
    persona: Person
    system_prompt: str
    channel_names: Mapping[int, str]
    excluded_ids: frozenset[int] = frozenset()
    min_reply_words: int = 1
    max_reply_characters: int = 2000
    min_reactions: int = 0
    masked: Counter[str] = field(default_factory=Counter)
    pseudonyms: Pseudonyms | None = None

    def __post_init__(self) -> None:
        self._names: dict[int, str] = {}
        self._speakers = {name.casefold() for person in self.people.values() for name in person.names} | ROLE_NAMES
        if self.pseudonyms is not None:
            self._speakers |= {name.casefold() for name in self.pseudonyms.all}
        self._turns: dict[tuple[str, tuple[int, ...]], str] = {}
        self._called: dict[int, list[str]] = {}

    def write(self, exchange: Exchange, channel: Channel) -> Reply | str:
        """The exchange as a record, or the reason why it makes none."""
        if self._is_excluded(exchange.instruction) or self._is_excluded(exchange.output):
            return "excluded_author"
        if sum(message.reactions for message in exchange.output) < self.min_reactions:
            return "too_few_reactions"
        instruction = self._prompt(exchange.instruction)
        output = self._answer(exchange.output, exchange.instruction)
        reason = self._reason_against(instruction, output)
        if reason:
            return reason
        turns = [turn for turn in exchange.history if not (self._is_excluded(turn[0]) or self._is_excluded(turn[1]))]
        history = [(self._prompt(asked), self._answer(said, asked)) for asked, said in turns]
        context = tuple(message for message in exchange.context if message.author_id not in self.excluded_ids)
        quoted = self._quote(context)
        if not context and not turns and channel.info.is_thread:
            quoted = self._without_names(clean_name(channel.info.name))
        record = Record(
            instruction=instruction,
            input=quoted,
            output=output,
            system=self.system_prompt,
            history=tuple((asked, said) for asked, said in history if asked and said),
            source=Source(
                conversation=exchange.conversation,
                turn=exchange.turn,
                timestamp=datetime.fromtimestamp(exchange.output[0].unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                instruction_ids=tuple(str(message.id) for message in exchange.instruction),
                output_ids=tuple(str(message.id) for message in exchange.output),
                context_ids=tuple(str(message.id) for message in context),
                confidence=round(exchange.confidence, 4),
            ),
        )
        spoken = [
            *exchange.instruction,
            *exchange.output,
            *(message for turn in turns for side in turn for message in side),
        ]
        return Reply(
            record,
            exchange.output[0].unix_ms,
            frozenset(message.id for message in spoken),
            frozenset(message.id for message in context),
            self._speaker(exchange.instruction[-1]),
        )

    def _reason_against(self, instruction: str, output: str) -> str:
        if not output:
            return "reply_without_text"
        if cleaning.is_only_links(output):
            return "reply_only_links"
        if cleaning.word_count(output) < self.min_reply_words and output.isascii():
            return "reply_too_short"
        if len(output) > self.max_reply_characters:
            return "reply_too_long"
        return "" if instruction else "prompt_without_text"

    def _is_excluded(self, messages: Sequence[Message]) -> bool:
        return bool(self.excluded_ids) and any(message.author_id in self.excluded_ids for message in messages)

    # Turns -----------------------------------------------------------------------------------------------------------

    def _prompt(self, messages: Sequence[Message]) -> str:
        """What others said: their lines, each with its speaker's name where there are several."""
        return self._remembered("prompt", messages, lambda: self._said_by_others(messages, named=_several(messages)))

    def _quote(self, messages: Sequence[Message]) -> str:
        return self._remembered("quote", messages, lambda: self._said_by_others(messages, named=True))

    def _answer(self, messages: Sequence[Message], answered: Sequence[Message]) -> str:
        """The persona's burst, without the address that one conversation partner needs none of."""
        partner = None if _several(answered) else answered[0].author_id

        def write() -> str:
            return self._finish("\n".join(filter(None, (self._text(message, partner) for message in messages))))

        return self._remembered(f"answer {partner}", messages, write)

    def _remembered(self, kind: str, messages: Sequence[Message], write: Callable[[], str]) -> str:
        key = (kind, tuple(message.id for message in messages))
        if key not in self._turns:
            self._turns[key] = write()
        return self._turns[key]

    def _said_by_others(self, messages: Sequence[Message], *, named: bool) -> str:
        """Lines of one speaker in a row are joined before the search for secrets, which may run over several.

        What somebody says again in the same words stands once.
        """
        pieces: list[tuple[str, list[str]]] = []
        said: set[tuple[str, str]] = set()
        for message in messages:
            text, speaker = self._text(message, self.persona.id), self._speaker(message)
            if not text or (speaker, text.casefold()) in said:
                continue
            said.add((speaker, text.casefold()))
            if not pieces or pieces[-1][0] != speaker:
                pieces.append((speaker, []))
            pieces[-1][1].append(text)
        if not named:
            return self._finish("\n".join(line for _, lines in pieces for line in lines))
        return "\n".join(
            f"{speaker}: {line}" if number == 0 else self._unforged(line)
            for speaker, lines in pieces
            for number, line in enumerate(self._finish("\n".join(lines)).split("\n"))
        )

    def _finish(self, text: str) -> str:
        text, found = masking.mask(text)
        self.masked.update(found)
        return cleaning.split_control_tokens(text).strip()

    def _unforged(self, line: str) -> str:
        """A line that pretends to be somebody's: quoted, so that it starts with nobody's name."""
        label = _LABEL.match(line)
        return f"> {line}" if label and label[1].casefold() in self._speakers else line

    def _text(self, message: Message, addressed: int | None) -> str:
        text = cleaning.clean(message.content, self._name, self._channel_name)
        if addressed is not None and addressed in self.people:
            text = cleaning.without_address(text, self._names_of(addressed)) or text
        return self._without_names(text)

    def _without_names(self, text: str) -> str:
        return text if self.pseudonyms is None else self.pseudonyms.replace(text)

    def _names_of(self, person_id: int) -> list[str]:
        """What the person is called, in small letters, the longest first."""
        if person_id not in self._called:
            known = {*self.people[person_id].names, self._name(person_id)} - {""}
            self._called[person_id] = sorted(map(str.lower, known), key=lambda name: (-len(name), name))
        return self._called[person_id]

    def _speaker(self, message: Message) -> str:
        if message.is_bot or message.author_name == MANY_PEOPLE:
            if self.pseudonyms is not None:
                return self.pseudonyms.name(message.author_id, message.author_nickname or message.author_name)
            return clean_name(message.author_nickname or message.author_name)
        return self._name(message.author_id) or clean_name(message.author_name)

    def _name(self, person_id: int) -> str:
        """The name that people see, or "" for an id that wrote nothing."""
        if person_id not in self._names:
            person = self.people.get(person_id)
            if person is None or self.pseudonyms is None or person_id == self.persona.id:
                self._names[person_id] = clean_name(person.name) if person else ""
            else:
                self._names[person_id] = self.pseudonyms.name(person_id)
        return self._names[person_id]

    def _channel_name(self, channel_id: int) -> str:
        return self._without_names(self.channel_names.get(channel_id, ""))


def clean_name(name: str) -> str:
    """A name that fits in one line and can't end its own label."""
    name = cleaning.remove_invisible(name).replace("\n", " ").replace(":", " ").strip()
    return cleaning.split_control_tokens(masking.mask(name)[0])


def _several(messages: Sequence[Message]) -> bool:
    return (
        len(
            {
                (message.author_id, message.author_name == MANY_PEOPLE and message.author_nickname)
                for message in messages
            }
        )
        > 1
    )
