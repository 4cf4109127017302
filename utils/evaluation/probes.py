"""Replies to look for in what a model knows, and how it takes each of them: one forward pass shows both how likely a
reply is and whether greedy decoding would give it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from utils import console, prompts
from utils.evaluation.settings import EvaluationSettings
from utils.likelihood import collate
from utils.prompts import Encoded
from utils.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MIN_REPLY_TOKENS = 10  # without the end-of-turn token
ROW_TOKENS = 512


@dataclass(frozen=True)
class Probe:
    """A reply to look for. `name` is CONVERSATION#TURN, or the record's number in a file without conversations."""

    name: str
    conversation: str
    record: Record
    encoded: Encoded


@dataclass(frozen=True)
class Observed:
    """How a model takes one reply: mean NLL in nats per token, and whether it is completed word for word."""

    nll: float
    verbatim: bool


def choose(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings) -> list[Probe]:
    """A seeded sample of the records whose reply is long enough and that fit the length limit, encoded as in training;
    a reply that the sample already holds after the same prompt is left out."""
    probes: dict[tuple[int, ...], Probe] = {}
    for index in random.Random(settings.seed).sample(range(len(records)), len(records)):
        if len(probes) == settings.training_records:
            break
        encoded = prompts.encode_within(records[index], tokenizer, settings.max_length_tokens)
        if encoded is not None and encoded.supervised_tokens > MIN_REPLY_TOKENS:
            source = records[index].source
            name = f"{source.conversation}#{source.turn}" if source.conversation else f"record {index + 1}"
            probes.setdefault(encoded.input_ids, Probe(name, source.conversation or name, records[index], encoded))
    return list(probes.values())


def observe(model: PreTrainedModel, probes: Sequence[Probe], what: str) -> list[Observed]:
    """One forward pass over the probes, several in a row where they are short."""
    observed: dict[int, Observed] = {}
    with torch.inference_mode(), console.progress("replies") as bar:
        task = bar.add_task(what, total=len(probes))
        for indices in _rows(probes):
            row = {name: each.to(model.device) for name, each in collate([probes[i].encoded for i in indices]).items()}
            logits = model(
                input_ids=row["input_ids"],
                position_ids=row["position_ids"],
                logits_to_keep=row["scored"],
                use_cache=False,
            ).logits[0]  # (S, V): S supervised tokens over a vocabulary of V
            nll = functional.cross_entropy(logits.float(), row["targets"], reduction="none").tolist()
            likeliest = (logits.argmax(-1) == row["targets"]).tolist()
            first = 0
            for index in indices:
                end = first + probes[index].encoded.supervised_tokens
                observed[index] = Observed(sum(nll[first:end]) / (end - first), all(likeliest[first : end - 1]))
                first = end
            bar.advance(task, len(indices))
    return [observed[index] for index in range(len(probes))]


def _rows(probes: Sequence[Probe]) -> Iterator[list[int]]:
    """Indices of probes, the shortest first, whose tokens together fit a row; a longer one has a row to itself."""
    row: list[int] = []
    tokens = 0
    for index in sorted(range(len(probes)), key=lambda index: len(probes[index].encoded.input_ids)):
        length = len(probes[index].encoded.input_ids)
        if row and tokens + length > ROW_TOKENS:
            yield row
            row, tokens = [], 0
        row.append(index)
        tokens += length
    if row:
        yield row
