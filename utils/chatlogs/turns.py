"""Exchange -> Record: the messages of a turn become its text.

A turn's text depends on its messages (and on who is who) alone, so a turn reads the same as a prompt and,
later, in the history: the records of one conversation share their beginnings to the letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.conversations import Exchange
from utils.chatlogs.people import person_key
from utils.chatlogs.speakers import Speakers, clean_name
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.text import cleaning
from utils.privacy import masking
from utils.records import Record, Source


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
    """Writes turns as text, each once. `masked` counts what masking.py replaced in them, by kind."""

    speakers: Speakers
    system_prompt: str
    excluded_ids: frozenset[int] = frozenset()
    min_reply_words: int = 1
    max_reply_characters: int = 2000
    min_reactions: int = 0
    masked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._turns: dict[tuple[str, tuple[int, ...]], str] = {}

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
            quoted = self.speakers.without_names(clean_name(channel.info.name))
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
            self.speakers.label(exchange.instruction[-1]),
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
            text, speaker = self._text(message, self.speakers.persona.id), self.speakers.label(message)
            if not text or (speaker, text.casefold()) in said:
                continue
            said.add((speaker, text.casefold()))
            if not pieces or pieces[-1][0] != speaker:
                pieces.append((speaker, []))
            pieces[-1][1].append(text)
        if not named:
            return self._finish("\n".join(line for _, lines in pieces for line in lines))
        return "\n".join(
            f"{speaker}: {line}" if number == 0 else self.speakers.unforged(line)
            for speaker, lines in pieces
            for number, line in enumerate(self._finish("\n".join(lines)).split("\n"))
        )

    def _finish(self, text: str) -> str:
        text, found = masking.mask(text)
        self.masked.update(found)
        return cleaning.split_control_tokens(text).strip()

    def _text(self, message: Message, addressed: int | None) -> str:
        text = cleaning.clean(message.content, self.speakers.name, self.speakers.channel_name)
        if addressed is not None:
            text = cleaning.without_address(text, self.speakers.all_names(addressed)) or text
        return self.speakers.without_names(text)


def _several(messages: Sequence[Message]) -> bool:
    return len(set(map(person_key, messages))) > 1
