"""The Trainer: masked head, honest loss, guards.

A batch of the data loader is one whole optimizer step (`sequences.Step`), so micro-batches of any shape add up to the
same gradient: the sum of the replies' token losses over the number of supervised tokens in the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer

from utils import console
from utils.console import UserError
from utils.likelihood import collate, shares_prefixes, token_nll
from utils.prompts import Encoded
from utils.training import checkpoints
from utils.training.memory import out_of_memory
from utils.training.sequences import SHAPES, Step, pack
from utils.training.sharding import load_whole

MicroBatch = tuple[Encoded, ...]

SKIPPED_STEPS_LIMIT = 20  # in a row; the float16 gradient scaler needs a few at the start to find its scale
LOWER_RATE = "lower --learning-rate and start again with --restart (--resume would come to the same step)"


class ChatTrainer(Trainer):
    """transformers' Trainer over planned steps. It sees the plan as one epoch; `epochs`, how often it
    passes over the records, is for the log."""

    def __init__(
        self,
        *,
        plan: Sequence[Step],
        validation: Step | None,
        epochs: float,
        micro_batch_tokens: int,
        fingerprints: dict[str, str],
        keep_checkpoints: int,
        **kwargs,
    ):
        super().__init__(train_dataset=list(plan), eval_dataset=[], data_collator=_one_step, **kwargs)
        self.validation = validation
        self.epochs = epochs
        self.micro_batch_tokens = micro_batch_tokens
        self.fingerprints = fingerprints
        self.keep_checkpoints = keep_checkpoints
        self.share_prefix = shares_prefixes(self.model)
        self.staging: Path | None = None
        self.skipped_steps = 0  # in a row
        self.last_loss = math.nan
        self.last_gradient_norm = math.nan  # before clipping
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader:
        """Every process walks the same plan; `training_step` gives each its share of a step's micro-batches."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=_one_step)

    def floating_point_ops(self, inputs) -> int:
        return 0

    def training_step(self, model, inputs: dict[str, Step], num_items_in_batch=None) -> torch.Tensor:
        self._count_skipped_steps()
        while True:
            try:
                loss = self._accumulate(model, inputs["step"])
                break
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._halve_micro_batch(model)
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            self._stop(f"the training loss became {self.last_loss}")
        return loss

    def _accumulate(self, model, step: Step) -> torch.Tensor:
        """Adds up the gradient of a step and returns its loss, in nats per supervised token. With several processes
        each takes its share of the micro-batches, and the mean over the processes is turned back into a sum."""
        model.train()
        ranks = self.accelerator.num_processes
        share = list(self._share(self._pack(step)))
        loss = torch.zeros((), device=self.args.device)
        for index, (sequences, mine) in enumerate(share):
            row = self._row(sequences)
            last = index == len(share) - 1
            with self.compute_loss_context_manager(), nullcontext() if last else self.accelerator.no_sync(model):
                part = token_nll(model, row).sum() / step.supervised_tokens * float(mine)
                self.accelerator.backward(part * ranks)
            loss += part.detach()
        return self.accelerator.reduce(loss, "sum") if ranks > 1 else loss

    def _halve_micro_batch(self, model) -> None:
        """Out of memory: no weight has been touched in this step yet, so it starts over in smaller pieces."""
        if self.accelerator.num_processes > 1:  # the others wait for this one in the middle of the step
            raise UserError(
                f"memory ran out in process {self.accelerator.process_index}; start again with --restart"
                f" --micro-batch-tokens {self.micro_batch_tokens // 2}, or with --gradient-checkpointing"
            )
        longest = max(len(sequence.input_ids) for step in self.train_dataset for sequence in step.sequences)
        if self.micro_batch_tokens <= longest:
            raise UserError(
                "memory ran out on the smallest possible micro-batch; lower --max-length-tokens or add"
                " --gradient-checkpointing, and go on with --resume"
            )
        model.zero_grad(set_to_none=True)
        if self.args.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batch_tokens //= 2
        console.warn(
            f"memory ran out at step {self.state.global_step + 1}: micro-batches are now {self.micro_batch_tokens}"
            " tokens, twice as many to a step; weights and effective batch are as before"
        )

    def _clip_grad_norm(self, model) -> torch.Tensor:
        norm = super()._clip_grad_norm(model)
        self.last_gradient_norm = float(norm)
        if self.accelerator.scaler is None and not math.isfinite(self.last_gradient_norm):
            self._stop(f"the gradient's norm became {self.last_gradient_norm}")
        return norm

    def _count_skipped_steps(self) -> None:
        skipped = self.accelerator.scaler is not None and self.accelerator.optimizer_step_was_skipped
        self.skipped_steps = self.skipped_steps + 1 if skipped else 0
        if self.skipped_steps >= SKIPPED_STEPS_LIMIT:
            self._stop(f"the float16 gradient scaler skipped {self.skipped_steps} steps in a row")

    def _stop(self, reason: str) -> None:
        raise UserError(
            f"{reason} at step {self.state.global_step + 1}, so training stopped before that step was"
            f" taken; {LOWER_RATE}"
        )

    def evaluate(self, *_, metric_key_prefix: str = "eval", **__) -> dict[str, float]:
        """Token-weighted: the sum of all replies' token losses over the number of their tokens; perplexity is exp of
        it. Trainer's own eval_loss averages batch means."""
        if self.validation is None:
            return {}
        nll = self.mean_nll(self.validation)
        metrics = {f"{metric_key_prefix}_loss": nll, f"{metric_key_prefix}_perplexity": math.exp(min(nll, 700.0))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def mean_nll(self, step: Step) -> float:
        """Nats per supervised token, without dropout; leaves the model in the mode that it was in. Each process takes
        its share of the micro-batches, and all get the same number."""
        was_training = self.model.training
        self.model.eval()
        total = 0.0
        with torch.no_grad(), self.compute_loss_context_manager():  # FSDP can't gather into inference tensors
            for sequences, mine in self._share(self._pack(step)):
                nll = token_nll(self.model, self._row(sequences)).sum()
                total += nll.item() if mine else 0.0
        self.model.train(was_training)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(torch.tensor(total, device=self.args.device), "sum").item()
        return total / step.supervised_tokens

    def any_process(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag: is it set in any of the processes?"""
        if self.accelerator.num_processes == 1:
            return flags
        counts = torch.tensor(flags, dtype=torch.float32, device=self.args.device)
        return tuple(count > 0 for count in self.accelerator.reduce(counts, "sum").tolist())

    def _pack(self, step: Step) -> tuple[MicroBatch, ...]:
        return pack(step.sequences, self.micro_batch_tokens, share_prefix=self.share_prefix)

    def _row(self, sequences: MicroBatch) -> dict[str, torch.Tensor]:
        return self._prepare_inputs(collate(sequences, share_prefix=self.share_prefix, **SHAPES))

    def _share(self, micro_batches: Sequence[MicroBatch]) -> Iterator[tuple[MicroBatch, bool]]:
        """This process's micro-batches: every so-many-th one. All processes must run equally often, so one that has
        run out repeats the first one, marked False for not counting."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        for start in range(0, len(micro_batches), ranks):
            mine = start + rank < len(micro_batches)
            yield micro_batches[start + rank if mine else 0], mine

    def _determine_best_metric(self, metrics, trial) -> bool:
        return bool(metrics) and super()._determine_best_metric(metrics, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        epoch = self.state.epoch
        if epoch is not None:
            self.state.epoch = epoch * self.epochs
        super().log(logs, start_time)
        self.state.epoch = epoch

    def _get_output_dir(self, trial) -> str:
        return str(self.staging) if self.staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        """Stages, verifies and publishes a checkpoint; every process puts its random state into it."""
        root = Path(self.args.output_dir)
        wait = self.accelerator.wait_for_everyone
        if not self.args.should_save:
            wait()
            self._save_into(root / checkpoints.STAGING, model, trial)
            wait()
            return
        with checkpoints.staged(root, self.state.global_step, self.fingerprints, self.micro_batch_tokens) as staging:
            wait()
            self._save_into(staging, model, trial)
            wait()
        checkpoints.rotate(root, self.keep_checkpoints, self.state.best_global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """accelerate's own loading for FSDP stumbles over 4-bit weights, though a checkpoint holds none."""
        if self.is_fsdp_enabled:
            saved = Path(resume_from_checkpoint) / f"{FSDP_MODEL_NAME}.bin"
            load_whole(self.model, torch.load(saved, map_location="cpu", weights_only=True))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_into(self, staging: Path, model, trial) -> None:
        self.staging = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.staging = None


def _one_step(batch: list[Step]) -> dict[str, Step]:
    return {"step": batch[0]}
