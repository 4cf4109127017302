"""A Modelfile: the chat template in Go's words, where a reply stops, and the persona's system prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from utils import prompts
from utils.console import UserError
from utils.export import merged
from utils.prompts import ChatMessage
from utils.records import Record

ROLES = ("system", "user", "assistant")

# What a template takes for itself, and what a Modelfile loses: three quotes end a value, and what Go doesn't print is
# dropped, no-break spaces and the joiners of emoji among it.
_SPECIAL = re.compile(r'\{|"""|[^\t\n -~]')


@dataclass(frozen=True)
class Turns:
    """A chat template taken apart: the text before and after a message, by role, and what starts a reply."""

    before: dict[str, str]
    after: dict[str, str]
    reply_start: str

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = (self.before[each["role"]] + each["content"] + self.after[each["role"]] for each in messages)
        return "".join(turns) + self.reply_start


def turns(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """Takes the tokenizer's chat template apart by rendering a conversation message by message.

    Raises UserError when the template does more than put text around each message.
    """
    before, after, rendered = {}, {}, ""
    talk = [{"role": role, "content": f"the {role} text"} for role in ROLES]
    for index, message in enumerate(talk):
        try:
            longer = prompts.render(talk[: index + 1], tokenizer, generation_prompt=False)
        except UserError as error:  # some render no system prompt without a question
            raise _not_turn_by_turn() from error
        start, found, end = longer.removeprefix(rendered).partition(message["content"])
        if not longer.startswith(rendered) or not found:
            raise _not_turn_by_turn()
        before[message["role"]], after[message["role"]], rendered = start, end, longer
    prompt = prompts.render(talk[:2], tokenizer, generation_prompt=True)
    reply_start = prompt.removeprefix(prompts.render(talk[:2], tokenizer, generation_prompt=False))
    found = Turns(before, after, reply_start)
    long_talk = [*talk, talk[1], talk[2], {"role": "user", "content": "a last question"}]
    if found.render(long_talk) != prompts.render(long_talk, tokenizer, generation_prompt=True):
        raise _not_turn_by_turn()
    return found


def modelfile(gguf_name: str, tokenizer: PreTrainedTokenizerBase, system_prompt: str, *, leading_space: bool) -> str:
    """The Modelfile's text. `leading_space` is the vocabulary's: the template writes the space that llama.cpp doesn't.

    A system prompt that a SYSTEM line can't hold stands in the template, for conversations without one of their own.
    Without the last lines Ollama's own habits of drawing replies come in, and a reply that repeats itself has no end.

    Raises UserError when the chat template can't be said in a Modelfile.
    """
    parts = turns(tokenizer)
    start = parts.before | {"system": " " * leading_space + parts.before["system"]}
    template = _template(start, parts)
    system = _as_trained(system_prompt, tokenizer, parts)
    system_line = f'SYSTEM """{system}"""\n'
    if not _held_by_modelfile(system):
        system_line = ""
        default_turn = _in_template(start["system"] + system + parts.after["system"])
        template = f"{{{{ if not .System }}}}{default_turn}{{{{ end }}}}{template}"
    stops = {tokenizer.decode([token_id]) for token_id in prompts.end_of_turn_ids(tokenizer)}
    stops.add(parts.before["user"].strip())
    stop_lines = "".join(f'PARAMETER stop "{stop}"\n' for stop in sorted(stops) if stop)
    return (
        f'FROM ./{gguf_name}\nTEMPLATE """{template}"""\n{system_line}{stop_lines}'
        f"PARAMETER temperature {merged.TEMPERATURE}\nPARAMETER top_p {merged.TOP_P}\nPARAMETER top_k {merged.TOP_K}\n"
        f"PARAMETER repeat_penalty 1.0\nPARAMETER num_predict {merged.MAX_REPLY_TOKENS}\n"
    )


def system_prompt(records: Sequence[Record]) -> str:
    """The records' most frequent system prompt, or the one that training puts in where there is none."""
    return Counter(record.system or prompts.DEFAULT_SYSTEM_PROMPT for record in records).most_common(1)[0][0]


def _template(start: dict[str, str], parts: Turns) -> str:
    """The chat template in Go's words; `start` is the text before a message, by role."""
    branches = [
        f'{{{{ {"if" if role == ROLES[0] else "else if"} eq .Role "{role}" }}}}'
        f"{_in_template(start[role])}{{{{ .Content }}}}{_in_template(parts.after[role])}"
        for role in ROLES
    ]
    messages = f"{{{{ range .Messages }}}}{''.join(branches)}{{{{ end }}}}{{{{ end }}}}"
    return messages + _in_template(parts.reply_start)


def _as_trained(system_prompt: str, tokenizer: PreTrainedTokenizerBase, parts: Turns) -> str:
    """A system prompt as training renders it."""
    turn = prompts.render([{"role": "system", "content": system_prompt}], tokenizer, generation_prompt=False)
    return turn.removeprefix(parts.before["system"]).removesuffix(parts.after["system"])


def _held_by_modelfile(text: str) -> bool:
    return bool(text) and '"""' not in text and text.translate({ord("\t"): None, ord("\n"): None}).isprintable()


def _in_template(text: str) -> str:
    """A text as a template of Go writes it."""
    return _SPECIAL.sub(_go_string, text)


def _go_string(found: re.Match[str]) -> str:
    if len(found[0]) == 1 and found[0].isprintable() and found[0] != "{":
        return found[0]
    escaped = "".join(f"\\U{ord(character):08x}" for character in found[0])
    return f'{{{{ "{escaped}" }}}}'


def _not_turn_by_turn() -> UserError:
    return UserError(
        "this base model's chat template does more than put text around each message, so it can't be said in a"
        " Modelfile; use --to gguf, whose file carries the template itself"
    )
