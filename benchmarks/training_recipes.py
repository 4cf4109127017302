"""The ways of training that `train.py` compares, each over the same records, base, LoRA and 4-bit setting.

All use transformers' Trainer with the same schedule and about the same number of records an optimizer step. What
differs is what they do to the records and to the step:

- `project`: this project's own pieces, called as its train scripts call them, preflight included;
- `trl`: TRL's SFTTrainer, packing best-fit without attention across records, training the replies alone;
- `common`: what tutorials show: one record a row, padded to the length limit, loss on every token.

The peers get more than they would find by themselves. Their records are tokenised and shortened by this project, so
that none loses its reply to the length limit; they recompute no activations, which is SFTTrainer's default; they use
the fused AdamW; and the common recipe learns the end-of-turn token, which its usual collator masks as padding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from utils import base_models, prompts
from utils.base_models import BaseModel, Compute
from utils.likelihood import shares_prefixes
from utils.prompts import Encoded
from utils.records import Record
from utils.training import data, lora, preflight
from utils.training import run as training
from utils.training.sequences import pack, plan_run, row_tokens
from utils.training.settings import TrainingSettings


@dataclass(frozen=True)
class Lesson:
    """What to learn, on what, with which settings. `compute` holds the dtype of this recipe."""

    run: TrainingSettings
    base: BaseModel
    compute: Compute
    tokenizer: PreTrainedTokenizerBase
    records: list[Record]


@dataclass(frozen=True)
class Prepared:
    """A model with its adapter, and a function that trains it, for so many steps or, given None, for all epochs.

    `tokens` are those of an epoch's rows without padding, `scored_positions` those with a loss.
    """

    model: PeftModel
    train: Callable[[int | None, TrainerCallback], None]
    tokens: int
    scored_positions: int


class Stopwatch(TrainerCallback):
    """`seconds` from before the first step to after the last one: data loading, forward, backward, optimizer."""

    def __init__(self, device: torch.device):
        self.device = device
        self.started_s = self.seconds = 0.0
        self.optimizer_steps = 0

    def on_train_begin(self, args, state, control, **_) -> None:
        self.started_s = self._now_s()

    def on_step_end(self, args, state: TrainerState, control, **_) -> None:
        self.optimizer_steps = state.global_step
        if state.global_step == state.max_steps:
            self.seconds = self._now_s() - self.started_s

    def _now_s(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def project(lesson: Lesson) -> Prepared:
    run, compute, tokenizer = lesson.run, lesson.compute, lesson.tokenizer
    files = data.RecordFiles(train=lesson.records, validation=[], sha256="")
    encoded = data.encode(files, tokenizer, run.max_length_tokens, run.evaluation_records)
    model = lora.add_adapter(base_models.load_model(lesson.base, compute), run)
    fit = preflight.measure(model, encoded, run, compute, None)
    share_prefix = shares_prefixes(model)
    steps = plan_run(encoded.train, effective_batch=run.effective_batch, epochs=1, max_steps=None, seed=run.seed)
    rows = [row for step in steps for row in pack(step.sequences, fit.micro_batch_tokens, share_prefix=share_prefix)]

    def train(max_steps: int | None, callback: TrainerCallback) -> None:
        limited = replace(run, max_steps=max_steps)
        trainer = training.build(model, tokenizer, encoded, limited, compute, {}, fit)
        trainer.add_callback(callback)
        training.train(trainer, limited, None)

    return Prepared(
        model,
        train,
        tokens=sum(row_tokens(row, share_prefix=share_prefix) for row in rows),
        scored_positions=sum(sequence.supervised_tokens for sequence in encoded.train),
    )


def trl(lesson: Lesson) -> Prepared:
    """SFTTrainer on prompt and completion, given as token ids with a mask of the completion."""
    from trl import SFTConfig, SFTTrainer

    run, encoded = lesson.run, encode_each(lesson)
    model = _peer_model(lesson)
    dataset = Dataset.from_dict(
        {
            "input_ids": [list(record.input_ids) for record in encoded],
            "completion_mask": [_reply_mask(record) for record in encoded],
        }
    )
    # Packed rows an optimizer step, so that a step holds as many records as the other recipes'. A micro-batch is one
    # row of 512 tokens on a CPU, where larger ones are slower, and up to `batch_size` rows on a GPU.
    rows = len(pack(encoded, run.max_length_tokens))
    rows_per_step = max(1, round(run.effective_batch * rows / len(encoded)))
    accumulation = rows_per_step if lesson.compute.device.type == "cpu" else math.ceil(rows_per_step / run.batch_size)
    batch_size = math.ceil(rows_per_step / accumulation)

    def train(max_steps: int | None, callback: TrainerCallback) -> None:
        arguments = SFTConfig(
            **_peer_arguments(lesson, rows, batch_size, accumulation, max_steps),
            max_length=run.max_length_tokens,
            packing=True,
            packing_strategy="bfd",
            completion_only_loss=True,
        )
        SFTTrainer(
            model, arguments, train_dataset=dataset, processing_class=lesson.tokenizer, callbacks=[callback]
        ).train()

    return Prepared(
        model,
        train,
        tokens=sum(len(record.input_ids) for record in encoded),
        scored_positions=sum(record.supervised_tokens for record in encoded),
    )


def common(lesson: Lesson) -> Prepared:
    run, encoded = lesson.run, encode_each(lesson)
    model = _peer_model(lesson)
    rows = [_padded(record, run.max_length_tokens, lesson.tokenizer.pad_token_id) for record in encoded]

    def train(max_steps: int | None, callback: TrainerCallback) -> None:
        arguments = TrainingArguments(
            **_peer_arguments(lesson, len(rows), run.batch_size, run.gradient_accumulation_steps, max_steps)
        )
        Trainer(model, arguments, data_collator=default_data_collator, train_dataset=rows, callbacks=[callback]).train()

    tokens = sum(len(record.input_ids) for record in encoded)
    return Prepared(model, train, tokens, scored_positions=tokens - len(encoded))


RECIPES: dict[str, Callable[[Lesson], Prepared]] = {"project": project, "trl": trl, "common": common}


def encode_each(lesson: Lesson) -> list[Encoded]:
    """Every record as a sequence of its own, shortened as the project shortens it, up to the end of its reply."""
    limit = lesson.run.max_length_tokens
    encoded = [prompts.encode_within(record, lesson.tokenizer, limit) for record in lesson.records]
    return [Encoded(one.input_ids[: one.replies[-1][1]], one.replies) for one in encoded if one]


def _reply_mask(record: Encoded) -> list[int]:
    mask = [0] * len(record.input_ids)
    for start, end in record.replies:
        mask[start:end] = [1] * (end - start)
    return mask


def _padded(record: Encoded, length: int, pad_token_id: int) -> dict[str, list[int]]:
    ids, padding = list(record.input_ids), length - len(record.input_ids)
    return {
        "input_ids": ids + [pad_token_id] * padding,
        "attention_mask": [1] * len(ids) + [0] * padding,
        "labels": ids + [-100] * padding,
    }


def _peer_model(lesson: Lesson) -> PeftModel:
    """The same base with the same LoRA, as peft makes it. SFTTrainer casts the adapter of a 4-bit base to bfloat16."""
    model = base_models.load_model(lesson.base, lesson.compute)
    set_seed(lesson.run.seed)
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lesson.run.lora_rank,
            lora_alpha=lesson.run.lora_alpha,
            lora_dropout=lesson.run.lora_dropout,
            target_modules="all-linear",
            bias="none",
        ),
    )


def _peer_arguments(
    lesson: Lesson, rows: int, batch_size: int, accumulation: int, max_steps: int | None
) -> dict[str, Any]:
    """The project's settings in transformers' terms. Warm-up is rounded as the project rounds it: Trainer would round
    up, and a short run would spend its first step at a learning rate of 0."""
    run, compute = lesson.run, lesson.compute
    total_steps = math.ceil(math.ceil(rows / batch_size) / accumulation) * run.epochs
    return {
        "output_dir": str(run.output_dir),
        "num_train_epochs": run.epochs,
        "max_steps": -1 if max_steps is None else max_steps,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": run.lr_schedule,
        "warmup_steps": round(run.warmup_fraction * total_steps),
        "weight_decay": run.weight_decay,
        "max_grad_norm": run.max_grad_norm,
        "optim": "adamw_torch_fused",
        "fp16": compute.dtype == torch.float16,
        "bf16": compute.dtype == torch.bfloat16,
        "use_cpu": compute.device.type == "cpu",
        "gradient_checkpointing": False,
        "seed": run.seed,
        "save_strategy": "no",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
