"""The Trainer: masked head, honest loss, guards.

A batch of the data loader is one whole optimizer step (`sequences.Step`), so micro-batches of any shape add up to the
same gradient: the sum of the replies' token losses over the number of supervised tokens in the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments

from utils import console
from utils.base_models import Compute
from utils.console import UserError
from utils.likelihood import collate, token_nll
from utils.training import checkpoints, monitoring
from utils.training.data import EncodedData
from utils.training.sequences import Step, fold, make_step, plan_run
from utils.training.settings import TrainingSettings

# A micro-batch is one row of about this many tokens; larger rows ran slower per token on the CPU.
CPU_MICRO_BATCH_TOKENS = 512


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: EncodedData,
    settings: TrainingSettings,
    compute: Compute,
    fingerprints: dict[str, str],
) -> ChatTrainer:
    """Folds and packs the records, lays out the whole run, and builds the trainer for it."""
    micro_batch_tokens = settings.batch_size * settings.max_length_tokens
    if compute.device.type == "cpu":
        micro_batch_tokens = min(micro_batch_tokens, CPU_MICRO_BATCH_TOKENS)
    plan = plan_run(
        fold(data.train),
        effective_batch=settings.effective_batch,
        micro_batch_tokens=micro_batch_tokens,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        seed=settings.seed,
    )
    return ChatTrainer(
        model=model,
        processing_class=tokenizer,
        args=_arguments(settings, compute, total_steps=len(plan)),
        plan=plan,
        validation=make_step(fold(data.validation), micro_batch_tokens) if data.validation else None,
        epochs=settings.epochs,
        fingerprints=fingerprints,
        keep_checkpoints=settings.keep_checkpoints,
    )


def _arguments(settings: TrainingSettings, compute: Compute, total_steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(settings.output_dir / "checkpoints"),
        num_train_epochs=1,
        max_steps=total_steps,
        per_device_train_batch_size=1,  # one planned step
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_schedule,
        warmup_steps=round(settings.warmup_fraction * total_steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        fp16=compute.dtype == torch.float16,
        bf16=compute.dtype == torch.bfloat16,
        use_cpu=compute.device.type == "cpu",
        seed=settings.seed,
        eval_strategy="steps",
        eval_steps=max(1, math.ceil(total_steps / settings.evaluations)),
        eval_on_start=True,
        save_strategy="steps",
        save_steps=settings.save_every_steps,
        logging_steps=settings.log_every_steps,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        dataloader_num_workers=0,
    )


def fit(chat: ChatTrainer, run: TrainingSettings) -> dict[str, float | int]:
    """Trains from the start, or from the newest intact checkpoint when `run.resume` says so.

    Returns the results: steps, supervised tokens, validation perplexity before and after, peak memory.

    Raises UserError for an unfinished run in the folder that is neither to be resumed nor dropped, and when training
    diverges.
    """
    root = Path(chat.args.output_dir)
    console.heading(_summary(chat))
    checkpoint = _starting_point(root, run, chat.fingerprints)
    wandb_run = monitoring.start_wandb(run)
    chat.add_callback(monitoring.Metrics(run.output_dir / "metrics.jsonl", chat.train_dataset, wandb_run))
    chat.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    checkpoints.mark_finished(root, chat.state.global_step)
    if wandb_run is not None:
        wandb_run.finish()
    return _results(chat)


def _summary(chat: ChatTrainer) -> str:
    plan = chat.train_dataset
    tokens, supervised = sum(step.tokens for step in plan), sum(step.supervised_tokens for step in plan)
    return (
        f"training on {chat.args.device.type}: {len(plan)} steps, {sum(step.replies for step in plan):,} replies,"
        f" {tokens:,} tokens, of which {supervised / tokens:.0%} are supervised"
    )


def _starting_point(root: Path, run: TrainingSettings, fingerprints: dict[str, str]) -> Path | None:
    unfinished = checkpoints.unfinished_step(root)
    if run.resume and not run.restart:
        checkpoint = checkpoints.newest_intact(root, fingerprints)
        if checkpoint:
            console.say(f"going on from {checkpoint}")
        return checkpoint
    if unfinished is not None and not run.restart:
        raise UserError(
            f"{root} holds an unfinished run, saved at step {unfinished}: add --resume to go on with it, or --restart"
            " to drop it"
        )
    checkpoints.clear(root)
    return None


def _results(chat: ChatTrainer) -> dict[str, float | int]:
    done = chat.train_dataset[: chat.state.global_step]
    evaluations = [row for row in chat.state.log_history if "eval_loss" in row]
    results: dict[str, float | int] = {
        "optimizer_steps": chat.state.global_step,
        "trained_tokens": sum(step.tokens for step in done),
        "supervised_tokens": sum(step.supervised_tokens for step in done),
        "peak_memory_mib": round(monitoring.peak_memory_mib(chat.args.device)),
    }
    if evaluations:
        results |= {
            "validation_perplexity_before": evaluations[0]["eval_perplexity"],
            "validation_perplexity_after": evaluations[-1]["eval_perplexity"],
        }
    return results


class ChatTrainer(Trainer):
    """transformers' Trainer over planned steps. `epochs` is for the log: Trainer sees the plan as one epoch."""

    def __init__(
        self,
        *,
        plan: Sequence[Step],
        validation: Step | None,
        epochs: int,
        fingerprints: dict[str, str],
        keep_checkpoints: int,
        **kwargs,
    ):
        super().__init__(train_dataset=list(plan), eval_dataset=[], data_collator=_one_step, **kwargs)
        self.validation = validation
        self.epochs = epochs
        self.fingerprints = fingerprints
        self.keep_checkpoints = keep_checkpoints
        self.staging: Path | None = None
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, *_) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def floating_point_ops(self, inputs) -> int:
        return 0

    def training_step(self, model, inputs: dict[str, Step], num_items_in_batch=None) -> torch.Tensor:
        step = inputs["step"]
        model.train()
        loss = torch.zeros((), device=self.args.device)
        for sequences in step.micro_batches:
            micro_batch = self._prepare_inputs(collate(sequences))
            with self.compute_loss_context_manager():
                share = token_nll(model, micro_batch).sum() / step.supervised_tokens
            self.accelerator.backward(share)
            loss += share.detach()
        if not math.isfinite(loss.item()):
            raise UserError(
                f"the training loss became {loss.item()} at step {self.state.global_step + 1}, so training stopped"
                " before that step was taken; lower --learning-rate and go on from the last checkpoint with --resume"
            )
        return loss

    def _clip_grad_norm(self, model) -> torch.Tensor:
        norm = super()._clip_grad_norm(model)
        scaler = self.accelerator.scaler
        if scaler is None and not torch.isfinite(torch.as_tensor(float(norm))):
            raise UserError(
                f"the gradient's norm became {float(norm)} at step {self.state.global_step + 1}, so training stopped"
                " before that step was taken; lower --learning-rate and go on from the last checkpoint with --resume"
            )
        return norm

    def evaluate(self, *_, metric_key_prefix: str = "eval", **__) -> dict[str, float]:
        """Token-weighted: the sum of all replies' token losses over the number of their tokens; perplexity is exp of
        it. Trainer's own eval_loss averages batch means."""
        if self.validation is None:
            return {}
        nll = token_weighted_nll(self.model, self.validation, self)
        metrics = {f"{metric_key_prefix}_loss": nll, f"{metric_key_prefix}_perplexity": math.exp(min(nll, 700.0))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        epoch = self.state.epoch
        if epoch is not None:
            self.state.epoch = epoch * self.epochs
        super().log(logs, start_time)
        self.state.epoch = epoch

    def _get_output_dir(self, trial) -> str:
        return str(self.staging) if self.staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        root = Path(self.args.output_dir)
        with checkpoints.staged(root, self.state.global_step, self.fingerprints) as staging:
            self.staging = staging
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.staging = None
        checkpoints.rotate(root, keep=self.keep_checkpoints)


def _one_step(batch: list[Step]) -> dict[str, Step]:
    return {"step": batch[0]}


def token_weighted_nll(model: torch.nn.Module, step: Step, trainer: Trainer) -> float:
    """Mean NLL in nats per supervised token, without dropout; leaves the model in the mode that it was in."""
    was_training = model.training
    model.eval()
    total = 0.0
    with torch.inference_mode(), trainer.compute_loss_context_manager():
        for sequences in step.micro_batches:
            total += token_nll(model, trainer._prepare_inputs(collate(sequences))).sum().item()
    model.train(was_training)
    return total / step.supervised_tokens
