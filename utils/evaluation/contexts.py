"""What a held-out reply is scored under: its own context, wrong ones, an empty one; and what it is ranked among."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from transformers import PreTrainedTokenizerBase

from utils import prompts
from utils.console import UserError
from utils.evaluation.ranking import similar_replies
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.shared_prefix import Pair
from utils.records import Record


@dataclass(frozen=True)
class HeldOutReply:
    """A true reply and what it is scored with, as token ids.

    `reply` ends with the end-of-turn token. `context` is its own prompt, `wrong_contexts` are those of records of
    other conversations (none when there is just one conversation), `empty_context` the same system prompt with an empty
    message. `others` are the replies that it is ranked among. `characters` counts the reply's text.
    """

    conversation: str
    characters: int
    reply: tuple[int, ...]
    context: tuple[int, ...]
    wrong_contexts: tuple[tuple[int, ...], ...]
    empty_context: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]

    def pairs(self) -> list[Pair]:
        """Everything that is to be scored for this reply."""
        contexts = [self.context, self.empty_context]
        ranked = [Pair(context, reply) for context in contexts for reply in (self.reply, *self.others)]
        return [*ranked, *(Pair(context, self.reply) for context in self.wrong_contexts)]


def held_out_replies(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings
) -> list[HeldOutReply]:
    """Encodes the records and draws wrong contexts and candidates, the same ones for every model with this tokenizer.

    Records that don't fit into `settings.max_length_tokens` are left out. Raises UserError when none fits.
    """
    encoded = [(record, prompts.encode_within(record, tokenizer, settings.max_length_tokens)) for record in records]
    fitting = [(record, each) for record, each in encoded if each]
    if not fitting:
        raise UserError("no held-out record fits into the length limit; raise --max-length-tokens")
    kept = [record for record, _ in fitting]
    contexts = [each.input_ids[: each.replies[0][0]] for _, each in fitting]
    replies = [each.input_ids[slice(*each.replies[0])] for _, each in fitting]
    conversations = conversation_names(kept)
    others = similar_replies(
        [record.output for record in kept], list(map(len, replies)), conversations, settings.candidates, settings.seed
    )
    wrong = derangements(conversations, settings.wrong_contexts, settings.seed)
    return [
        HeldOutReply(
            conversation=conversations[index],
            characters=len(record.output.strip()),
            reply=replies[index],
            context=contexts[index],
            wrong_contexts=tuple(contexts[other] for other in wrong[index]),
            empty_context=_empty_context(record, tokenizer),
            others=tuple(replies[other] for other in others[index]),
        )
        for index, record in enumerate(kept)
    ]


def conversation_names(records: Sequence[Record]) -> list[str]:
    """Each record's conversation; one that does not say is a conversation of its own."""
    return [record.source.conversation or f"record {index}" for index, record in enumerate(records)]


def derangements(conversations: Sequence[str], count: int, seed: int) -> list[tuple[int, ...]]:
    """For each record the indices of up to `count` different ones from other conversations, to borrow their contexts.

    Conversations are laid end to end in drawn order, and every record takes the one that stands so many places further:
    as many as the largest conversation is long, for the first derangement, and evenly spread numbers beyond that for
    the others. So each context is borrowed once by a derangement, as long as no conversation holds more than half of
    the records; where one does, there is one derangement, and its surplus takes drawn contexts. Nothing when there is
    one conversation alone.
    """
    rng = random.Random(seed)
    members: dict[str, list[int]] = {}
    for index, conversation in enumerate(conversations):
        members.setdefault(conversation, []).append(index)
    drawn = list(members.values())
    rng.shuffle(drawn)
    order = [index for group in drawn for index in rng.sample(group, len(group))]
    largest = max(map(len, drawn))
    shifts = range(largest, max(largest, len(order) - largest) + 1)
    taken = min(count, len(shifts))
    partners: list[tuple[int, ...]] = [()] * len(order)
    for shift in (shifts[turn * len(shifts) // taken] for turn in range(taken)):
        for place, index in enumerate(order):
            partner = order[(place + shift) % len(order)]
            if conversations[partner] == conversations[index]:
                elsewhere = [other for other in order if conversations[other] != conversations[index]]
                partners[index] += (rng.choice(elsewhere),) if elsewhere else ()
            else:
                partners[index] += (partner,)
    return partners


def _empty_context(record: Record, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    silent = msgspec.structs.replace(record, instruction="", input="", history=())
    return tuple(prompts.encode_prompt(prompts.prompt_messages(silent), tokenizer))
