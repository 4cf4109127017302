"""What a run tells while it runs: metrics.jsonl always, the terminal, and Weights & Biases where there is a run.

Numbers only: no message text leaves the training process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import TrainerCallback, TrainerState

from utils import console, records
from utils.training import wandb_runs
from utils.training.memory import peak_memory_mib
from utils.training.sharding import whole
from utils.training.trainer import ChatTrainer

THIRDS = ("early", "middle", "late")  # of the model's depth


class Metrics(TrainerCallback):
    """Writes every logged metric to `metrics.jsonl`, to W&B where there is a run, and a line to the terminal."""

    def __init__(self, chat: ChatTrainer, path: Path, wandb_run: Any | None):
        self.chat = chat
        self.path = path
        self.wandb_run = wandb_run
        self.first_step = 0
        self.step_started_s = 0.0
        self.training_s = 0.0  # in optimizer steps alone, without evaluations and checkpoints
        self.gradient_norms: dict[str, float] = {}
        self.bar = console.progress("steps")
        self.task = self.bar.add_task("training", start=False, total=None)

    def on_train_begin(self, args, state: TrainerState, control, **_) -> None:
        self.first_step = state.global_step
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._drop_rows_after(state.global_step)
        self.bar.start()
        self.bar.start_task(self.task)
        self.bar.update(self.task, completed=state.global_step, total=state.max_steps)

    def on_step_begin(self, args, state, control, **_) -> None:
        self.step_started_s = time.perf_counter()

    def on_pre_optimizer_step(self, args, state: TrainerState, control, model=None, **_) -> None:
        if (state.global_step + 1) % args.logging_steps == 0:
            self.gradient_norms = gradient_norms_by_group(model, self.chat.last_gradient_norm)

    def on_step_end(self, args, state: TrainerState, control, **_) -> None:
        self.training_s += time.perf_counter() - self.step_started_s
        self.bar.update(self.task, completed=state.global_step, description=f"loss {self.chat.last_loss:.3f}")

    def on_log(self, args, state: TrainerState, control, logs: dict[str, float], **_) -> None:
        row: dict[str, float | int] = {"step": state.global_step, **logs}
        row.pop("total_flos", None)
        done = self.chat.train_dataset[self.first_step : state.global_step]
        if "loss" in logs and done:
            row["tokens_per_s"] = round(sum(step.tokens for step in done) / self.training_s, 1)
            row["supervised_tokens_per_s"] = round(sum(step.supervised_tokens for step in done) / self.training_s, 2)
            row["peak_memory_mib"] = round(peak_memory_mib(args.device), 1)
            row["adapter_update_norm"] = adapter_update_norm(self.chat.model)
            row |= self.gradient_norms
        if not state.is_world_process_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)  # deleted meanwhile
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        metrics = {name: value for name, value in row.items() if name != "step"}
        self._tell_wandb(lambda wandb_run: wandb_run.log(metrics, step=state.global_step))
        self._tell(row, state)

    def close(self) -> None:
        """Ends the progress bar and the W&B run, however the training ended."""
        self.bar.stop()
        self._tell_wandb(lambda wandb_run: wandb_run.finish())
        self.wandb_run = None

    def _tell_wandb(self, action: Callable[[Any], object]) -> None:
        """Training outlives W&B: after its first failure nothing more is sent."""
        if self.wandb_run is None:
            return
        try:
            action(self.wandb_run)
        except Exception as error:  # any failure of a service that training does not need
            self.wandb_run = None
            wandb_runs.warn_lost(error)

    def _drop_rows_after(self, step: int) -> None:
        """A resumed run repeats the steps after its checkpoint: their rows would stand twice. A row that a crash of the
        machine tore is dropped as well."""
        kept: list[str] = []
        if step and self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
        records.write_atomically(self.path, "".join(kept).encode())

    def _tell(self, row: dict[str, float | int], state: TrainerState) -> None:
        at = f"step {state.global_step:>4}/{state.max_steps}"
        if "eval_perplexity" in row:
            console.say(f"{at}  validation perplexity {row['eval_perplexity']:.2f}", above=self.bar)
        elif "loss" in row:
            done = state.global_step - self.first_step
            left_s = self.training_s / done * (state.max_steps - state.global_step)
            console.say(
                f"{at}  loss {row['loss']:.3f}  gradient norm {row.get('grad_norm', math.nan):.2f}"
                f"  {row['tokens_per_s']:.0f} tokens/s  {duration(left_s)} left",
                above=self.bar,
            )


def gradient_norms_by_group(model: torch.nn.Module, norm: float) -> dict[str, float]:
    """2-norms of the gradient by kind of layer, and by third of the depth: each group's part of `norm`, the whole
    gradient's before clipping, which made all of it smaller by one factor."""
    squares: dict[str, float] = {}
    layers = 1 + max((_layer(name) for name, _ in model.named_parameters()), default=0)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        square = whole(parameter.grad).float().square().sum().item()
        kind = "attention" if "attn" in name else "mlp" if "mlp" in name else "other"
        third = THIRDS[min(2, 3 * max(_layer(name), 0) // layers)]
        for group in (kind, third):
            squares[group] = squares.get(group, 0.0) + square
    whole_square = sum(squares.get(third, 0.0) for third in THIRDS) or 1.0
    return {f"grad_norm/{group}": norm * math.sqrt(square / whole_square) for group, square in sorted(squares.items())}


def adapter_update_norm(model: torch.nn.Module) -> float:
    """Frobenius norm of what LoRA adds to the base, sqrt(sum over layers of |scale B A|^2); 0 without LoRA.

    |B A|^2 = trace((B^T B)(A A^T)), so the full matrices are never built.
    """
    total = 0.0
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, scale in module.scaling.items():
                if name in module.lora_A:
                    a, b = whole(module.lora_A[name].weight.detach()), whole(module.lora_B[name].weight.detach())
                    total += scale**2 * torch.sum((b.T @ b) * (a @ a.T)).item()
    return math.sqrt(max(total, 0.0))


def duration(seconds: float) -> str:
    """'42 s', '3:07 min' or '2:05 h'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"] if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _layer(name: str) -> int:
    """The number in `...layers.7.self_attn...`, -1 where there is none."""
    parts = name.split(".")
    for before, part in pairwise(parts):
        if before in ("layers", "h", "blocks") and part.isdigit():
            return int(part)
    return -1
