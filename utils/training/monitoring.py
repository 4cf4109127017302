"""What a run tells while it runs: metrics.jsonl always, the terminal, and Weights & Biases when wanted.

Numbers only: no message text leaves the training process.
"""

from __future__ import annotations

import json
import netrc
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from utils import console, settings
from utils.training.sequences import Step
from utils.training.settings import TrainingSettings

WANDB_HOST = "api.wandb.ai"
HOST_TIMEOUT_S = 3


class Metrics(TrainerCallback):
    """Writes every logged metric to `metrics.jsonl`, to W&B where there is a run, and one line to the terminal."""

    def __init__(self, path: Path, plan: list[Step], wandb_run: Any | None):
        self.path = path
        self.plan = plan
        self.wandb_run = wandb_run
        self.first_step = 0
        self.step_started_s = 0.0
        self.training_s = 0.0  # in optimizer steps alone, without evaluations and checkpoints

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if state.global_step == 0:
            self.path.unlink(missing_ok=True)
        self.first_step = state.global_step

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.step_started_s = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.training_s += time.perf_counter() - self.step_started_s

    def on_log(self, args: TrainingArguments, state: TrainerState, control, logs: dict[str, float], **kwargs) -> None:
        row: dict[str, float | int] = {"step": state.global_step, **logs}
        done = self.plan[self.first_step : state.global_step]
        if "loss" in logs and done:
            row["tokens_per_s"] = round(sum(step.tokens for step in done) / self.training_s, 1)
            row["supervised_tokens_per_s"] = round(sum(step.supervised_tokens for step in done) / self.training_s, 2)
            row["peak_memory_mib"] = round(peak_memory_mib(args.device), 1)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.wandb_run is not None:
            self.wandb_run.log({name: value for name, value in row.items() if name != "step"}, step=state.global_step)
        self._tell(row, state)

    def _tell(self, row: dict[str, float | int], state: TrainerState) -> None:
        at = f"step {state.global_step:>4}/{state.max_steps}"
        if "eval_perplexity" in row:
            console.say(f"{at}  validation perplexity {row['eval_perplexity']:.2f}")
        elif "loss" in row:
            done = state.global_step - self.first_step
            left_s = self.training_s / done * (state.max_steps - state.global_step)
            console.say(
                f"{at}  loss {row['loss']:.3f}  gradient norm {row.get('grad_norm', float('nan')):.2f}"
                f"  {row['tokens_per_s']:.0f} tokens/s  {duration(left_s)} left"
            )


def duration(seconds: float) -> str:
    """'42 s', '3:07 min' or '2:05 h'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def peak_memory_mib(device: torch.device) -> float:
    """The most memory held at once: allocated on a GPU, resident for the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if os.uname().sysname == "Darwin" else peak / 2**10


def start_wandb(run: TrainingSettings) -> Any | None:
    """A W&B run, or None. The mode is decided before `wandb.init`, which would wait 90 s for a host that it can't reach
    and then end the training; when it fails all the same, training goes on without it."""
    mode = _wandb_mode(run.wandb)
    if mode == "off":
        return None
    import wandb

    try:
        return wandb.init(
            project=run.wandb_project,
            name=run.run_name,
            dir=run.output_dir,
            mode=mode,
            config=settings.to_dict(run),
            settings=wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True),
        )
    except Exception as error:  # any failure of a service that training does not need
        console.warn(f"W&B is off: {' '.join(str(error).split())[:160]}; metrics.jsonl has everything")
        return None


def _wandb_mode(wanted: str) -> str:
    if wanted in ("off", "offline"):
        return wanted
    if wanted == "auto" and not _wandb_logged_in():
        return "off"
    if not _host_reachable():
        fallback = "offline" if wanted == "online" else "off"
        console.warn(f"W&B: {WANDB_HOST} can't be reached; the run is {fallback}")
        return fallback
    return "online"


def _wandb_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(WANDB_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _host_reachable() -> bool:
    import httpx

    try:
        httpx.head(f"https://{WANDB_HOST}", timeout=HOST_TIMEOUT_S)
    except httpx.HTTPError:
        return False
    return True
