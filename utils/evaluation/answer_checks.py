"""What is wrong with a model whatever its likelihoods say: empty replies, replies without an end, loops, control tokens
in the text, and replies that depend on the batch that they were generated in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils import prompts
from utils.evaluation.generation import complete, encode_prompts, to_reply
from utils.evaluation.results import Check, Reply
from utils.evaluation.settings import EvaluationSettings
from utils.records import Record

MAX_REPETITION = 0.5  # of a reply's character 4-grams
BATCHED_PROMPTS = 8
LOOPS_SHARE = 0.05  # of drawn replies: a small model loops now and then, and its base may do so more often


@dataclass(frozen=True)
class BatchSizes:
    """Greedy replies to the same prompts, one at a time (`alone`) and in a batch. `differing` and `near_ties` hold
    indices of prompts whose replies differ; where rounding may have decided, the latter."""

    alone: tuple[Reply, ...]
    differing: tuple[int, ...]
    near_ties: tuple[int, ...]

    @property
    def tokens_per_second(self) -> float:
        """What a person in a chat sees: one reply at a time."""
        return sum(reply.tokens for reply in self.alone) / sum(reply.seconds for reply in self.alone)

    @property
    def first_token_seconds(self) -> float:
        """The mean wait for a reply's first token, one reply at a time."""
        return sum(reply.first_token_seconds for reply in self.alone) / len(self.alone)


def check(
    replies: Sequence[Reply],
    batch_sizes: BatchSizes,
    tokenizer: PreTrainedTokenizerBase,
    base_replies: Sequence[Reply] = (),
) -> list[Check]:
    """The checks that a model's replies must pass, each one failed by a single bad reply, but for two:

    a reply may hit the length limit, as long as not all do; and a loop counts only in a reply that hit the limit, when
    more than half of its character 4-grams stood in it before. Loops fail when there are more than in one reply in
    twenty and more than in the base's replies to the same messages, which the training can't be blamed for.
    """
    texts = [reply.text for reply in replies]
    empty = sum(not text for text in texts)
    ended = sum(reply.ended for reply in replies)
    loops, base_loops = (sum(map(is_loop, each)) for each in (replies, base_replies))
    of_the_base = f", base {base_loops}" if loops and base_replies else ""
    special = prompts.control_pattern(tokenizer)
    forged = sum(prompts.neutralise(text, special) != text for text in texts)
    differing, ties = len(batch_sizes.differing), len(batch_sizes.near_ties)
    tied = f"{ties} of {len(batch_sizes.alone)} parted at a near-tie" if ties else ""
    return [
        Check("no reply is empty", not empty, _of(empty, replies)),
        Check("replies come to an end", ended > 0, f"{ended} of {len(replies)} before the length limit"),
        Check(
            "replies don't repeat themselves endlessly",
            loops <= max(LOOPS_SHARE * len(replies), base_loops),
            _of(loops, replies) + of_the_base,
        ),
        Check("no control tokens in a reply", not forged, _of(forged, replies)),
        Check(
            "a reply is the same alone and in a batch",
            not differing,
            ", ".join(filter(None, [_of(differing, batch_sizes.alone), tied])),
        ),
    ]


def is_loop(reply: Reply) -> bool:
    return not reply.ended and repetition(reply.text) > MAX_REPETITION


def repetition(text: str) -> float:
    """The share of a text's character 4-grams that stood in it before: 0 for a text without any repetition. Characters
    rather than words, so that "hahahaha" is seen as well."""
    grams = [text[index : index + 4] for index in range(len(text) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def same_at_any_batch_size(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    settings: EvaluationSettings,
) -> BatchSizes:
    """Answers the first records greedily, alone and all in one batch, and compares the replies token by token.

    A batch adds in another order, so two tokens that are almost equally likely can change places. A difference counts
    as such a near-tie when, at the first token that differs, both runs had the two best logits closer than
    `rounding(dtype)`; a mistake in padding, mask or positions moves logits by far more.
    """
    greedy = dataclasses.replace(settings, temperature=0.0)
    prompt_ids = encode_prompts(records[:BATCHED_PROMPTS], tokenizer, greedy)
    ends = prompts.end_of_turn_ids(tokenizer)
    alone = [complete(model, [ids], ends, greedy)[0] for ids in prompt_ids]
    together = complete(model, prompt_ids, ends, greedy)
    differing, near_ties = [], []
    for index, (one, other) in enumerate(zip(alone, together, strict=True)):
        if one.tokens == other.tokens:
            continue
        at = next(place for place, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)) if a != b)
        close = max(one.margins[at], other.margins[at]) < rounding(model.dtype)
        (near_ties if close else differing).append(index)
    return BatchSizes(tuple(to_reply(each, tokenizer) for each in alone), tuple(differing), tuple(near_ties))


def rounding(dtype: torch.dtype) -> float:
    """How far rounding alone can move a logit between batch sizes: 3 times the square root of the dtype's epsilon,
    which is 0.001 for float32, 0.09 for float16 and 0.27 for bfloat16."""
    return 3 * torch.finfo(dtype).eps ** 0.5


def _of(found: int, replies: Sequence[Reply]) -> str:
    return f"{found} of {len(replies)}" if found else ""
