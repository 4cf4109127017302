"""Folds records that share a prefix, packs sequences to a token budget, and lays out every step of a run.

A record whose prompt extends another record's prompt and reply holds that record inside: causal attention gives the
shorter one the same logits in both. Such records become one sequence in which every reply is supervised, once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from utils.likelihood import prefix_tokens
from utils.prompts import Encoded

# Rows come in few shapes: for bfloat16 on a CPU, oneDNN compiles a product anew for each shape that it has not met, and
# keeps what it compiled. A hundred rows that all differed took 2.5 times as long and 9 MiB each for good.
SHAPES = {"row_multiple": 64, "scored_multiple": 32}

ONE_SEQUENCE = 1  # micro-batch tokens that every sequence exceeds, so that each gets a micro-batch to itself


@dataclass(frozen=True)
class Step:
    """What one optimizer step learns from, however it is packed into micro-batches."""

    sequences: tuple[Encoded, ...]

    @property
    def replies(self) -> int:
        return sum(len(sequence.replies) for sequence in self.sequences)

    @property
    def supervised_tokens(self) -> int:
        return sum(sequence.supervised_tokens for sequence in self.sequences)

    @property
    def tokens(self) -> int:
        """Of its sequences, each on its own: what they share in a row is counted with each."""
        return sum(len(sequence.input_ids) for sequence in self.sequences)


def fold(encoded: Sequence[Encoded]) -> list[Encoded]:
    """Merges each record into the longest one that extends it; what follows a sequence's last reply is dropped.

    Equal records stay apart: each counts once.
    """
    trimmed = sorted(
        (Encoded(record.input_ids[: record.replies[-1][1]], record.replies) for record in encoded),
        key=lambda record: record.input_ids,
    )
    folded: list[Encoded] = []
    for record in trimmed:  # a prefix sorts right before what extends it
        last = folded[-1] if folded else None
        if last and len(last.input_ids) < len(record.input_ids) and _extends(record, last):
            folded[-1] = Encoded(record.input_ids, last.replies + record.replies)
        else:
            folded.append(record)
    return folded


def _extends(record: Encoded, prefix: Encoded) -> bool:
    length = len(prefix.input_ids)
    return record.input_ids[:length] == prefix.input_ids and record.replies[0][0] >= length


def plan_epoch(sequences: Sequence[Encoded], effective_batch: int, rng: random.Random) -> Iterator[Step]:
    """Shuffles the sequences and cuts them into steps of about `effective_batch` replies each."""
    order = list(sequences)
    rng.shuffle(order)
    chosen: list[Encoded] = []
    replies = 0
    for sequence in order:
        chosen.append(sequence)
        replies += len(sequence.replies)
        if replies >= effective_batch:
            yield Step(tuple(chosen))
            chosen, replies = [], 0
    if chosen:
        yield Step(tuple(chosen))


def plan_run(
    sequences: Sequence[Encoded],
    *,
    effective_batch: int,
    epochs: int,
    max_steps: int | None,
    seed: int,
) -> list[Step]:
    """Every step of a run, in order. It follows from data and seed alone, so that a resumed run finds its place."""
    rng = random.Random(seed)
    steps: list[Step] = []
    while epochs > 0 or (max_steps is not None and len(steps) < max_steps):
        steps += plan_epoch(sequences, effective_batch, rng)
        epochs -= 1
        if max_steps is not None and len(steps) >= max_steps:
            return steps[:max_steps]
    return steps


def pack(
    sequences: Sequence[Encoded], micro_batch_tokens: int, *, share_prefix: bool = False
) -> tuple[tuple[Encoded, ...], ...]:
    """Micro-batches of at most `micro_batch_tokens`. Best-fit decreasing: each sequence, the longest first, goes where
    it leaves the least room. None is cut; one that is longer than the budget gets a micro-batch to itself.

    With `share_prefix`, what all sequences begin with alike counts once for a micro-batch."""
    prefix = prefix_tokens(sequences) if share_prefix else 0
    bins: list[list[Encoded]] = []
    room: list[int] = []
    for sequence in sorted(sequences, key=lambda sequence: -len(sequence.input_ids)):
        length = len(sequence.input_ids) - prefix
        fitting = [index for index, left in enumerate(room) if left >= length]
        if fitting:
            best = min(fitting, key=room.__getitem__)
            bins[best].append(sequence)
            room[best] -= length
        else:
            bins.append([sequence])
            room.append(micro_batch_tokens - prefix - length)
    return tuple(map(tuple, bins))


def row_tokens(micro_batch: Sequence[Encoded], *, share_prefix: bool) -> int:
    """The tokens of a micro-batch's row, unfilled."""
    shared = (len(micro_batch) - 1) * prefix_tokens(micro_batch) if share_prefix else 0
    return sum(len(sequence.input_ids) for sequence in micro_batch) - shared
