"""Will it fit, how long will it take? Measured on the longest rows of the very run, not guessed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from transformers import PreTrainedModel

from utils import console
from utils.base_models import Compute
from utils.console import UserError
from utils.likelihood import collate, position_limit, shares_prefixes, takes_positions, token_nll
from utils.prompts import Encoded
from utils.training import monitoring
from utils.training.checkpoints import Checkpoint
from utils.training.data import EncodedData
from utils.training.isolation import keeps_sequences_apart, looks_ahead
from utils.training.memory import out_of_memory, peak_memory_mib
from utils.training.sequences import ONE_SEQUENCE, SHAPES, pack, plan_run, row_tokens
from utils.training.settings import TrainingSettings

MEASURING_SHARE = 0.03  # of the run's estimated time may go into finding a better micro-batch,
MEASURING_S = 10.0  # or so long, where that is more


@dataclass(frozen=True)
class Fit:
    """What the run will use and need. Rates are of forward and backward alone."""

    micro_batch_tokens: int
    gradient_checkpointing: bool
    tokens_per_s: float
    peak_memory_mib: float
    steps: int
    tokens: int
    supervised_tokens: int

    @property
    def seconds(self) -> float:
        return self.tokens / self.tokens_per_s


def measure(
    model: PreTrainedModel, data: EncodedData, run: TrainingSettings, compute: Compute, start: Checkpoint | None
) -> Fit:
    """Runs forward and backward on full micro-batches of growing size and takes the size with the most tokens a second.

    No weight, gradient or random state is left changed. A resumed run, or one with `micro_batch_tokens` set, measures
    that size alone. Where even the smallest runs out of memory, activations are recomputed.

    Raises UserError when the longest sequence does not fit even so, when the model has fewer positions than that, or
    when it is no causal one.
    """
    plan = plan_run(
        data.train, effective_batch=run.effective_batch, epochs=run.epochs, max_steps=run.max_steps, seed=run.seed
    )
    tokens, supervised = sum(step.tokens for step in plan), sum(step.supervised_tokens for step in plan)
    fixed = start.micro_batch_tokens if start else run.micro_batch_tokens
    sizes = [fixed] if fixed else _sizes(run, max(step.tokens for step in plan))
    longest = max(data.train, key=lambda sequence: len(sequence.input_ids))
    _refuse_what_cannot_learn(model, data, longest.input_ids, compute)
    if not keeps_sequences_apart(model, longest.input_ids, compute):
        console.warn("this model would see from one sequence of a micro-batch into the next: each gets one to itself")
        sizes = [ONE_SEQUENCE]
    if "RANK" in os.environ:  # each process would measure for itself, and all must agree
        sizes = sizes[:1]

    checkpointing = bool(run.gradient_checkpointing)
    _recompute(model, checkpointing)
    best = _try(model, data.train, sizes[0], compute)
    if best is None and run.gradient_checkpointing is None:
        checkpointing = True
        _recompute(model, True)
        best = _try(model, data.train, sizes[0], compute)
    if best is None:
        raise UserError(
            f"a micro-batch of {_in_words(sizes[0])} does not fit into the memory of {compute.device}; lower"
            " --max-length-tokens, or use a smaller base model"
        )
    size = sizes[0]
    for larger in sizes[1:]:
        affordable_s = max(MEASURING_SHARE * tokens / best, MEASURING_S)
        if 2 * larger / best > affordable_s or not _has_room(compute, larger / size):
            break
        rate = _try(model, data.train, larger, compute)
        if rate is None or rate < best:
            break
        size, best = larger, rate
    peak = peak_memory_mib(compute.device)
    return Fit(size, checkpointing, best, peak, len(plan), tokens, supervised)


def show(fit: Fit, data: EncodedData, compute: Compute) -> None:
    """Prints what the run will use, how long it will take, and what the length limit trims."""
    dtype = str(compute.dtype).removeprefix("torch.")
    folded = sum(len(sequence.input_ids) for sequence in data.train)
    console.heading(f"training on {compute.device} in {dtype}, base weights {compute.quantization}")
    console.say(
        f"{data.records:,} replies in {len(data.train):,} sequences: {folded:,} tokens an epoch instead of"
        f" {data.unfolded_tokens:,}, {fit.supervised_tokens / fit.tokens:.0%} supervised"
    )
    if data.trimmed:
        console.say(f"{data.trimmed:,} records lose their oldest turns to the length limit")
    recomputed = ", activations recomputed" if fit.gradient_checkpointing else ""
    console.say(
        f"{fit.steps:,} steps in micro-batches of {_in_words(fit.micro_batch_tokens)}{recomputed}: measured"
        f" {fit.tokens_per_s:,.0f} tokens/s, peak memory {fit.peak_memory_mib:,.0f} MiB, about"
        f" {monitoring.duration(fit.seconds)} without evaluations"
    )


def _refuse_what_cannot_learn(
    model: PreTrainedModel, data: EncodedData, longest: tuple[int, ...], compute: Compute
) -> None:
    limit = position_limit(model)
    if limit and not takes_positions(model):  # what fills a row up counts on from its sequence
        limit -= limit % SHAPES["row_multiple"]
    tokens = max(len(sequence.input_ids) for sequence in (*data.train, *data.validation))
    if limit and tokens > limit:
        raise UserError(
            f"records have up to {tokens:,} tokens, and the base model has positions for {limit:,}; add"
            f" --max-length-tokens {limit}"
        )
    if looks_ahead(model, longest, compute):
        raise UserError(
            "in this base model a token sees those that follow, as in an encoder, so it can't learn to write; use a"
            ' causal language model (one of BERT\'s kind becomes one by "is_decoder": true in its config.json)'
        )


def _in_words(micro_batch_tokens: int) -> str:
    return "one sequence" if micro_batch_tokens == ONE_SEQUENCE else f"{micro_batch_tokens:,} tokens"


def _sizes(run: TrainingSettings, step_tokens: int) -> list[int]:
    """Micro-batches to try, in tokens: the length limit and its doublings, up to a batch of full records or a whole
    step."""
    limit = min(run.batch_size * run.max_length_tokens, max(step_tokens, run.max_length_tokens))
    sizes = [run.max_length_tokens]
    while sizes[-1] * 2 <= limit:
        sizes.append(sizes[-1] * 2)
    return sizes


def _try(model: PreTrainedModel, sequences: Sequence[Encoded], size: int, compute: Compute) -> float | None:
    """Tokens a second of the second of two steps, None when memory runs out."""
    share_prefix = shares_prefixes(model)
    fullest = _fullest(sequences, size, share_prefix)
    collated = collate(fullest, share_prefix=share_prefix, **SHAPES)
    row = {name: tensor.to(compute.device) for name, tensor in collated.items()}
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng(devices=[compute.device] if compute.device.type == "cuda" else []):
            for _ in range(2):
                started_s = time.perf_counter()
                with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
                    loss = token_nll(model, row).mean()
                loss.backward()
                if compute.device.type == "cuda":
                    torch.cuda.synchronize(compute.device)
                seconds = time.perf_counter() - started_s
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if compute.device.type == "cuda":
            torch.cuda.empty_cache()
        return None
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
    return sum(len(sequence.input_ids) for sequence in fullest) / seconds


def _fullest(sequences: Sequence[Encoded], size: int, share_prefix: bool) -> tuple[Encoded, ...]:
    """The longest row that packing can make of the sequences."""
    longest = sorted(sequences, key=lambda sequence: -len(sequence.input_ids))[: max(1, size)]
    packed = pack(longest, size, share_prefix=share_prefix)
    return max(packed, key=lambda row: row_tokens(row, share_prefix=share_prefix))


def _has_room(compute: Compute, growth: float) -> bool:
    """On a CPU nothing says "out of memory" but the kernel's killer: stay within what is free."""
    if compute.device.type == "cuda":
        return True
    memory = psutil.virtual_memory()
    return psutil.Process().memory_info().rss * growth < 0.8 * (memory.available + psutil.Process().memory_info().rss)


def _recompute(model: PreTrainedModel, wanted: bool) -> None:
    if wanted:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
