"""Weights & Biases when wanted, never needed. The mode is decided before `wandb.init`, which would wait 90 seconds for
a host that it can't reach and then end the training."""

from __future__ import annotations

from typing import Any

from utils import console, settings, wandb_login
from utils.training.settings import TrainingSettings

HOST_TIMEOUT_S = 3


def start(run: TrainingSettings) -> Any | None:
    """A W&B run that gets numbers and settings but no text, or None; when W&B fails, training goes on without it."""
    mode = choose_mode(run.wandb)
    if mode == "off":
        return None
    import wandb

    try:
        return wandb.init(
            project=run.wandb_project,
            name=run.run_name,
            tags=list(run.wandb_tags),
            dir=run.output_dir,
            mode=mode,
            config=settings.to_dict(run),
            # nor the machine's name, the command line, the paths of program and Python
            settings=wandb.Settings(
                console="off",
                disable_git=True,
                disable_code=True,
                silent=True,
                x_disable_meta=True,
                host="",
                program="",
            ),
        )
    except Exception as error:  # any failure of a service that training does not need
        warn_lost(error)
        return None


def warn_lost(error: Exception) -> None:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    console.warn(f"W&B is off from here on: {reason}; metrics.jsonl has everything")


def choose_mode(wanted: str) -> str:
    """ "online", "offline" or "off"."""
    if wanted in ("off", "offline"):
        return wanted
    if wanted == "auto" and not wandb_login.logged_in():
        return "off"
    if not _host_reachable():
        fallback = "offline" if wanted == "online" else "off"
        console.warn(f"W&B: {wandb_login.HOST} can't be reached; the run is {fallback}")
        return fallback
    return "online"


def _host_reachable() -> bool:
    import httpx

    try:
        httpx.head(f"https://{wandb_login.HOST}", timeout=HOST_TIMEOUT_S)
    except httpx.HTTPError:
        return False
    return True
