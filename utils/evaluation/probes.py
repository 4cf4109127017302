"""Replies to look for in what a model knows, and how it takes each of them: the same scores show how likely a reply is
and whether greedy decoding would give it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils import console, prompts
from utils.evaluation.contexts import conversation_names
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.shared_prefix import Pair, score_pairs
from utils.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MIN_REPLY_TOKENS = 10  # without the end-of-turn token


@dataclass(frozen=True)
class Probe:
    """A reply to look for. `name` is CONVERSATION#TURN, or the record's number in a file without conversations."""

    name: str
    conversation: str
    record: Record
    pair: Pair


@dataclass(frozen=True)
class Observed:
    """How a model takes one reply: mean NLL in nats per token, and whether it is completed word for word."""

    nll: float
    verbatim: bool


def choose(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings) -> list[Probe]:
    """Up to `settings.training_records` records whose reply is long enough and that fit the length limit, encoded as in
    training; a reply that there is already after the same prompt is left out.

    Conversations are drawn, and of each all of its replies are taken: they share their context, so two and a half times
    as many can be looked at in the same time. Intervals and tests go by conversation, too.
    """
    members: dict[str, list[int]] = {}
    for index, conversation in enumerate(conversation_names(records)):
        members.setdefault(conversation, []).append(index)
    rng = random.Random(settings.seed)
    probes: dict[Pair, Probe] = {}
    for conversation in rng.sample(list(members), len(members)):
        for index in members[conversation]:
            encoded = prompts.encode_within(records[index], tokenizer, settings.max_length_tokens)
            if encoded is None or encoded.supervised_tokens <= MIN_REPLY_TOKENS:
                continue
            start, end = encoded.replies[0]
            pair = Pair(encoded.input_ids[:start], encoded.input_ids[start:end])
            source = records[index].source
            name = f"{source.conversation}#{source.turn}" if source.conversation else f"record {index + 1}"
            probes.setdefault(pair, Probe(name, source.conversation or name, records[index], pair))
            if len(probes) == settings.training_records:
                return list(probes.values())
    return list(probes.values())


def observe(model: PreTrainedModel, probes: Sequence[Probe], what: str) -> list[Observed]:
    """Greedy decoding gives a reply exactly when each of its tokens is the likeliest one after the true ones before."""
    with console.progress("replies") as bar:
        task = bar.add_task(what, total=len(probes))
        scores = score_pairs(model, [probe.pair for probe in probes], lambda count: bar.advance(task, count))
    return [
        Observed(score.nll / len(probe.pair.reply), score.verbatim) for probe, score in zip(probes, scores, strict=True)
    ]
