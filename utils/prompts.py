"""Record -> chat messages -> token ids and which of them are supervised.

Training, evaluation, chat and export all come through here, so the prompt that the adapter sees in use is, token for
token, the one it was trained on. B sequences of T tokens over a vocabulary of V.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from jinja2 import TemplateError

from utils.console import UserError
from utils.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ChatMessage = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# SmolLM2's template puts in a system prompt of its own when there is none, so there always is one.
DEFAULT_SYSTEM_PROMPT = "You are chatting with friends on Discord."

# `_without_system_role` in a template's own words.
_FOLD_SYSTEM_PROMPT = (
    "{% if messages|length > 1 and messages[0]['role'] == 'system' and messages[1]['role'] == 'user' %}"
    "{% set messages = [{'role': 'user', 'content': (messages[0]['content'] + '\\n\\n' + messages[1]['content'])|trim}]"
    " + messages[2:] %}{% endif %}"
)

_ROLE_TAG = re.compile(r"<\|(?=[A-Za-z_]{1,32}\|>)")


@dataclass(frozen=True)
class Encoded:
    """One rendered conversation.

    `input_ids` has T token ids. `replies` holds half-open token ranges (start, end), each a supervised reply with its
    end-of-turn token; token i is predicted from the position i - 1.
    """

    input_ids: tuple[int, ...]
    replies: tuple[tuple[int, int], ...]

    @property
    def supervised_tokens(self) -> int:
        return sum(end - start for start, end in self.replies)


def prompt_messages(record: Record) -> list[ChatMessage]:
    """The chat up to and including the message that is being answered; `input` stands before the instruction."""
    messages = [{"role": "system", "content": record.system or DEFAULT_SYSTEM_PROMPT}]
    for user, reply in record.history:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    asked = f"{record.input}\n\n{record.instruction}" if record.input else record.instruction
    return [*messages, {"role": "user", "content": asked}]


def render(messages: Sequence[ChatMessage], tokenizer: PreTrainedTokenizerBase, *, generation_prompt: bool) -> str:
    """Applies the tokenizer's chat template to `messages`, whose text can't forge a control token or a role tag. Where
    the template refuses a system role, as Gemma's does, the system prompt stands at the head of the first user turn.

    Raises UserError when the template can't render such a chat at all.
    """
    special = control_pattern(tokenizer)
    safe = [{**message, "content": neutralise(message["content"], special).strip()} for message in messages]
    try:
        return tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=generation_prompt)
    except TemplateError as refusal:
        try:
            folded = _without_system_role(safe)
            return tokenizer.apply_chat_template(folded, tokenize=False, add_generation_prompt=generation_prompt)
        except TemplateError:
            raise UserError(
                f"the chat template of {tokenizer.name_or_path} can't render a chat: {refusal}"
            ) from refusal


def _without_system_role(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    if [message["role"] for message in messages[:2]] != ["system", "user"]:
        return list(messages)
    system, first, *rest = messages
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}".strip()}, *rest]


def template_for_others(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template for programs that don't come through here: one that refuses a system role, as
    Gemma's does, is made to put the system prompt where `render` puts it."""
    try:
        tokenizer.apply_chat_template(prompt_messages(Record(instruction="hello", output="hi")), tokenize=False)
    except TemplateError:
        return _FOLD_SYSTEM_PROMPT + tokenizer.chat_template
    return tokenizer.chat_template


def encode_prompt(messages: Sequence[ChatMessage], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt that the model is to answer."""
    return tokenizer(render(messages, tokenizer, generation_prompt=True), add_special_tokens=False)["input_ids"]


def encode(record: Record, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Token ids of a record and the span of its reply.

    The ids are those of `apply_chat_template` on the whole conversation. Pieces tokenised apart can differ from it, so
    the span comes from the character offsets of the rendered string.

    Raises UserError when the tokenizer's template does not put the reply right behind the generation prompt.
    """
    messages = prompt_messages(record)
    prompt = render(messages, tokenizer, generation_prompt=True)
    whole = render([*messages, {"role": "assistant", "content": record.output}], tokenizer, generation_prompt=False)
    if not whole.startswith(prompt):
        raise UserError(
            f"the chat template of {tokenizer.name_or_path} does not start a reply where its generation prompt ends;"
            " use a base model with a plainer template"
        )
    encoding = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    input_ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    reply_end = len(whole.rstrip("\n"))  # templates end a turn with the end-of-turn token and a line break
    start = next(index for index, (_, stop) in enumerate(offsets) if stop > len(prompt))
    end = next((index for index, (first, _) in enumerate(offsets) if first >= reply_end), len(offsets))
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if input_ids[:start] != head:
        # A token spans the border, or the reply changes how the prompt's end is split: tokenise apart, as generation
        # will.
        tail = tokenizer(whole[len(prompt) : reply_end], add_special_tokens=False)["input_ids"]
        input_ids, start, end = head + tail, len(head), len(head) + len(tail)
    if input_ids[end - 1] not in end_of_turn_ids(tokenizer):
        input_ids, end = [*input_ids[:end], tokenizer.eos_token_id], end + 1
    return Encoded(tuple(input_ids), ((start, end),))


def encode_within(record: Record, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int) -> Encoded | None:
    """`encode`, with the oldest history turns left out, then `input`, until the record fits. A reply is never cut: the
    result is None when instruction and reply alone are too long."""
    for shorter in _shorter(record):
        encoded = encode(shorter, tokenizer)
        if len(encoded.input_ids) <= max_length_tokens:
            return encoded
    return None


def encode_prompt_within(record: Record, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int) -> list[int]:
    """`encode_prompt` of a record, shortened as in training; of an instruction that alone is too long, the end."""
    prompt: list[int] = []
    for shorter in _shorter(record):
        prompt = encode_prompt(prompt_messages(shorter), tokenizer)
        if len(prompt) <= max_length_tokens:
            return prompt
    return prompt[-max_length_tokens:]


def _shorter(record: Record) -> Iterator[Record]:
    """The record itself, then without its oldest turns, one after the other, then without `input`."""
    yield record
    while record.history:
        record = msgspec.structs.replace(record, history=record.history[1:])
        yield record
    if record.input:
        yield msgspec.structs.replace(record, input="")


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a reply: EOS, and ChatML's or Llama 3's mark where the vocabulary has it as a token."""
    vocabulary = tokenizer.get_added_vocab()
    return {tokenizer.eos_token_id} | {
        vocabulary[mark] for mark in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>") if mark in vocabulary
    }


def neutralise(text: str, special: re.Pattern[str]) -> str:
    """Puts a space inside whatever the tokenizer would read as a control token, and inside role tags such as
    `<|user|>`, which TinyLlama's template writes as plain text."""
    text = special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    return _ROLE_TAG.sub("< |", text)


def control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Whatever the tokenizer would read as a control token."""
    return special_token_pattern(tuple(sorted(set(tokenizer.all_special_tokens) | _added_tokens(tokenizer))))


@lru_cache(maxsize=8)
def special_token_pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _added_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    return {token for token in tokenizer.get_added_vocab() if token.strip()}
