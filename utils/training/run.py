"""One run from its first step to its results: building the trainer, stopping it well, keeping the best weights."""

from __future__ import annotations

import math
import signal
import sys
import time
from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, load_model
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from utils import colab, console
from utils.base_models import Compute
from utils.training import checkpoints, disk, plots, wandb_runs
from utils.training.checkpoints import Checkpoint
from utils.training.data import EncodedData
from utils.training.interrupts import StopRequest, stop_requests
from utils.training.memory import peak_memory_mib
from utils.training.monitoring import Metrics
from utils.training.preflight import Fit
from utils.training.sequences import Step, plan_run
from utils.training.settings import TrainingSettings
from utils.training.trainer import ChatTrainer


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: EncodedData,
    run: TrainingSettings,
    compute: Compute,
    fingerprints: dict[str, str],
    fit: Fit,
) -> ChatTrainer:
    """Lays out the whole run and builds the trainer for it."""
    plan = plan_run(
        data.train, effective_batch=run.effective_batch, epochs=run.epochs, max_steps=run.max_steps, seed=run.seed
    )
    return ChatTrainer(
        model=model,
        processing_class=tokenizer,
        args=_arguments(run, compute, total_steps=len(plan)),
        plan=plan,
        validation=Step(tuple(data.validation)) if data.validation else None,
        epochs=sum(step.replies for step in plan) / Step(tuple(data.train)).replies,
        micro_batch_tokens=fit.micro_batch_tokens,
        fingerprints=fingerprints,
        keep_checkpoints=run.keep_checkpoints,
    )


def train(chat: ChatTrainer, run: TrainingSettings, start: Checkpoint | None) -> dict[str, float | int]:
    """Trains from `start`, or from the beginning.

    Returns the results: steps, tokens, validation perplexity before and after, peak memory. A first Ctrl-C or SIGTERM
    finishes the step, saves, says how to go on and exits with 128 + the signal's number.

    Raises UserError when training diverges, or memory or disk runs out.
    """
    if start:
        console.say(f"going on from {start.folder}")
        chat.args.eval_on_start = False  # that was done; another evaluation would count for early stopping
    wandb_run = wandb_runs.start(run) if console.is_main_process() else None
    metrics = Metrics(chat, run.output_dir / "metrics.jsonl", wandb_run)
    try:
        with stop_requests() as request, disk.disk_faults(run.output_dir, "the run's progress"):
            chat.add_callback(metrics)
            chat.add_callback(_Milestones(run, request, chat))
            try:
                chat.train(resume_from_checkpoint=str(start.folder) if start else None)
            finally:
                metrics.close()
            if request:
                _say_how_to_go_on(chat)
                sys.exit(128 + int(request.signal_number or signal.SIGTERM))
            results = _results(chat)
            if run.final_weights == "best":
                results |= _restore_best(chat)
            if console.is_main_process():
                plots.plot(metrics.path, run.output_dir / "training.png")
    finally:
        disk.release(checkpoints.folder_of(run))
    return results


def _say_how_to_go_on(chat: ChatTrainer) -> None:
    how = "run this cell again to go on" if colab.in_notebook() else "go on with the same command and --resume"
    console.say(f"stopped after step {chat.state.global_step} and saved; {how}")


class _Milestones(TrainerCallback):
    """Decides between two steps: save by minutes, save a new best, stop early, stop on request.

    Clocks and signals differ between processes, and a save needs them all: they decide together.
    """

    def __init__(self, run: TrainingSettings, request: StopRequest, chat: ChatTrainer):
        self.run = run
        self.request = request
        self.chat = chat
        self.saved_s = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        due = time.monotonic() - self.saved_s > self.run.save_every_minutes * 60
        due, stop = self.chat.any_process(due, bool(self.request))
        if due:
            control.should_save = True
        if stop:
            self.request.signal_number = self.request.signal_number or signal.SIGTERM
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_save(self, args, state, control, **_) -> None:
        self.saved_s = time.monotonic()

    def on_evaluate(self, args, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_) -> None:
        losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row and row["step"] > 0]
        without_gain = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        if losses and without_gain == 0 and self.run.final_weights == "best":
            control.should_save = True
        patience = self.run.early_stopping_evaluations
        if patience is not None and without_gain >= patience:
            console.say(f"stopping early: {patience} evaluations in a row brought nothing better")
            control.should_training_stop = True


def _restore_best(chat: ChatTrainer) -> dict[str, float | int]:
    """Puts the weights of the best evaluation back, where they are not the last ones."""
    best = chat.state.best_global_step
    if not best or best == chat.state.global_step:
        return {}
    folder = Path(chat.args.output_dir) / f"checkpoint-{best}"
    model = chat.accelerator.unwrap_model(chat.model)
    try:
        if chat.is_fsdp_enabled:
            chat._load_from_checkpoint(str(folder), chat.model_wrapped)
        elif isinstance(model, PeftModel):
            set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        else:
            load_model(model, folder / "model.safetensors")
    except FileNotFoundError:
        console.warn(f"{folder} is gone: the last weights are kept instead of the best ones, those of step {best}")
        return {}
    console.say(f"the validation loss was lowest at step {best}: those weights are kept")
    return {"best_step": best, "validation_perplexity_after": math.exp(chat.state.best_metric)}


def _results(chat: ChatTrainer) -> dict[str, float | int]:
    done = chat.train_dataset[: chat.state.global_step]
    evaluations = [row for row in chat.state.log_history if "eval_loss" in row]
    results: dict[str, float | int] = {
        "optimizer_steps": chat.state.global_step,
        "trained_tokens": sum(step.tokens for step in done),
        "supervised_tokens": sum(step.supervised_tokens for step in done),
        "peak_memory_mib": round(peak_memory_mib(chat.args.device)),
    }
    if evaluations:
        results |= {
            "validation_perplexity_before": evaluations[0]["eval_perplexity"],
            "validation_perplexity_after": evaluations[-1]["eval_perplexity"],
        }
    return results


def _arguments(run: TrainingSettings, compute: Compute, total_steps: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(checkpoints.folder_of(run)),
        num_train_epochs=1,
        max_steps=total_steps,
        per_device_train_batch_size=1,  # one planned step
        learning_rate=run.learning_rate,
        lr_scheduler_type=run.lr_schedule,
        warmup_steps=round(run.warmup_fraction * total_steps),
        weight_decay=run.weight_decay,
        max_grad_norm=run.max_grad_norm,
        optim="adamw_torch",
        fp16=compute.dtype == torch.float16,
        bf16=compute.dtype == torch.bfloat16,
        use_cpu=compute.device.type == "cpu",
        seed=run.seed,
        eval_strategy="steps",
        eval_steps=max(1, math.ceil(total_steps / run.evaluations)),
        eval_on_start=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        save_strategy="steps",
        save_steps=run.save_every_steps,
        logging_steps=run.log_every_steps,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        dataloader_num_workers=0,
        ddp_find_unused_parameters=False,
    )
    if arguments.n_gpu > 1:  # DataParallel splits what is one row here; several GPUs need a launcher
        arguments._n_gpu = 1
    return arguments
