"""A Modelfile: the chat template in Go's words, where a reply stops, and the persona's system prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from utils import console, prompts
from utils.console import UserError
from utils.export import merged
from utils.prompts import ChatMessage
from utils.records import Record

ROLES = ("system", "user", "assistant")


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
        longer = prompts.render(talk[: index + 1], tokenizer, generation_prompt=False)
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

    Without the last lines Ollama's own habits of drawing replies come in.

    Raises UserError when the chat template can't be said in a Modelfile.
    """
    parts = turns(tokenizer)
    pieces = [*parts.before.values(), *parts.after.values(), parts.reply_start]
    if any("{{" in piece or '"""' in piece for piece in pieces):
        raise UserError("the chat template holds {{ or triple quotes, which a Modelfile can't; use --to gguf")
    start = parts.before | {"system": " " * leading_space + parts.before["system"]}
    branches = [
        f'{{{{ {"if" if role == ROLES[0] else "else if"} eq .Role "{role}" }}}}'
        f"{start[role]}{{{{ .Content }}}}{parts.after[role]}"
        for role in ROLES
    ]
    template = f"{{{{ range .Messages }}}}{''.join(branches)}{{{{ end }}}}{{{{ end }}}}{parts.reply_start}"
    stops = {tokenizer.decode([token_id]) for token_id in prompts.end_of_turn_ids(tokenizer)}
    stops.add(parts.before["user"].strip())
    stop_lines = "\n".join(f'PARAMETER stop "{stop}"' for stop in sorted(stops))
    return (
        f'FROM ./{gguf_name}\nTEMPLATE """{template}"""\nSYSTEM """{_quotable(system_prompt, tokenizer, parts)}"""\n'
        f"{stop_lines}\nPARAMETER temperature {merged.TEMPERATURE}\nPARAMETER top_p {merged.TOP_P}\n"
        f"PARAMETER top_k {merged.TOP_K}\nPARAMETER repeat_penalty 1.0\n"
    )


def system_prompt(records: Sequence[Record]) -> str:
    """The records' most frequent system prompt, or the one that training puts in where there is none."""
    return Counter(record.system or prompts.DEFAULT_SYSTEM_PROMPT for record in records).most_common(1)[0][0]


def _quotable(text: str, tokenizer: PreTrainedTokenizerBase, parts: Turns) -> str:
    """A system prompt as training renders it. A Modelfile can't escape triple quotes, so they become single ones."""
    turn = prompts.render([{"role": "system", "content": text}], tokenizer, generation_prompt=False)
    text = turn.removeprefix(parts.before["system"]).removesuffix(parts.after["system"])
    if '"""' in text:
        console.warn("the system prompt holds triple quotes, which a Modelfile can't; they become single ones")
    return text.replace('"""', "'''")


def _not_turn_by_turn() -> UserError:
    return UserError(
        "this base model's chat template does more than put text around each message, so it can't be said in a"
        " Modelfile; use --to gguf, whose file carries the template itself"
    )
