"""A chat with the model in the terminal: replies as they are written, base and tuned to compare, saved as records."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from utils import console, prompts, records
from utils.evaluation import generation
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.subjects import Subjects
from utils.records import Record, Source

Speaker = Literal["base", "tuned"]

COMMANDS = {
    "/tuned": "the model under test answers",
    "/base": "the base model answers",
    "/both": "both answer; the tuned model's reply is the one that the conversation goes on from",
    "/reset": "forgets the conversation",
    "/save FILE": "writes the conversation as JSONL records",
    "/help": "shows this",
    "/quit": "ends the chat; so does Ctrl-D. Ctrl-C stops a reply, a second one ends the chat",
}
_NAMES = [command.split()[0] for command in COMMANDS]
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # would move the cursor or recolour the terminal


@dataclass
class Conversation:
    """What has been said: (user turn, reply) pairs, oldest first, and each turn as the record that it makes."""

    system: str
    speakers: tuple[Speaker, ...] = ("tuned",)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    turns: list[Record] = field(default_factory=list)

    def ask(self, text: str) -> Record:
        """The record of the next turn, still without a reply."""
        history = tuple((turn.instruction, turn.output) for turn in self.turns)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        source = Source(conversation=f"chat/{self.started:%Y-%m-%dT%H:%M:%SZ}", turn=len(self.turns), timestamp=now)
        return Record(instruction=text, output="", system=self.system, history=history, source=source)


def system_prompt(settings: EvaluationSettings) -> str:
    """`--system`, or the one that the records were made with, or the default of the prompts."""
    if settings.system is not None:
        return settings.system
    if settings.test_file.exists():
        return records.read(settings.test_file)[0].system or prompts.DEFAULT_SYSTEM_PROMPT
    return prompts.DEFAULT_SYSTEM_PROMPT


def run(subjects: Subjects, settings: EvaluationSettings) -> None:
    """Reads lines and answers them until the person ends the chat."""
    with contextlib.suppress(ImportError):  # Windows has none
        importlib.import_module("readline")  # gives `input` line editing and recall
    conversation = Conversation(system_prompt(settings))
    against = f", base {subjects.base_name}" if subjects.has_base else ""
    console.say(f"\nchat with {subjects.name}{against}")
    console.say(f"system prompt: {conversation.system}")
    console.say("/help shows the commands")
    interrupted = False
    while True:
        try:
            line = input("\nyou    ").strip()
        except EOFError:
            console.say()
            return
        except KeyboardInterrupt:
            console.say()
            if interrupted:
                return
            interrupted = True
            console.say("Ctrl-C again ends the chat")
            continue
        interrupted = False
        if line == "/quit":
            return
        if line.startswith("/"):
            obey(line, conversation, subjects)
        elif line:
            interrupted = not reply(line, conversation, subjects, settings)


def obey(line: str, conversation: Conversation, subjects: Subjects) -> None:
    """Carries out a command; what can't be done is said, and the chat goes on."""
    name, _, argument = line.partition(" ")
    if name in ("/base", "/both") and not subjects.has_base:
        console.say("there is no base model to compare with; name one with --base-model")
    elif name in ("/base", "/tuned", "/both"):
        conversation.speakers = ("base", "tuned") if name == "/both" else (name.removeprefix("/"),)
        console.say(COMMANDS[name])
    elif name == "/reset":
        conversation.turns.clear()
        conversation.started = datetime.now(UTC)
        console.say("the conversation is forgotten")
    elif name == "/save":
        save(argument.strip(), conversation)
    elif name == "/help":
        console.table(["command", ""], COMMANDS.items())
    else:
        nearest = difflib.get_close_matches(name, _NAMES, n=1)
        console.say(f"no command {name}; {f'did you mean {nearest[0]}?' if nearest else '/help shows them'}")


def save(name: str, conversation: Conversation) -> None:
    """Writes the turns to a new JSONL file."""
    path = Path(name).expanduser()
    if not name:
        console.say("where to? /save FILE")
    elif not conversation.turns:
        console.say("nothing has been said yet")
    elif path.exists():
        console.say(f"{path} is there already; choose another name")
    else:
        try:
            records.write(path, conversation.turns)
            console.say(f"wrote {len(conversation.turns)} records to {path}")
        except OSError as error:
            console.say(f"can't write {path}: {error.strerror}")


def reply(text: str, conversation: Conversation, subjects: Subjects, settings: EvaluationSettings) -> bool:
    """Lets each speaker answer and keeps the last one's reply; False when Ctrl-C stopped it. A turn without a reply is
    not kept."""
    asked = conversation.ask(text)
    said = ""
    finished = True
    for speaker in conversation.speakers:
        said = ""
        console.out.print(f"{speaker:<7}", end="", style="bold" if speaker == "tuned" else "dim")
        try:
            for piece in speak(subjects, speaker, asked, settings):
                said += piece
                shown = _UNPRINTABLE.sub("", piece).replace("\n", "\n       ")
                console.out.print(shown, end="", markup=False, emoji=False)
        except KeyboardInterrupt:
            finished = False
            console.say(" (stopped)")
            break
        console.say("" if said else "(nothing)")
    if said:
        conversation.turns.append(msgspec.structs.replace(asked, output=said))
    return finished


def speak(subjects: Subjects, speaker: Speaker, asked: Record, settings: EvaluationSettings) -> Iterator[str]:
    """The speaker's reply, piece by piece.

    One loaded model serves as both, so the adapter is switched for each token alone: a reply that is stopped, or never
    read to its end, leaves the model as it was.
    """
    access = subjects.base if speaker == "base" else subjects.tuned
    with access() as model:
        pieces = generation.stream(model, subjects.tokenizer, asked, settings)
    while True:
        with access():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece
