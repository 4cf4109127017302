"""What is trained: LoRA on a (quantised) base, which layers and in which dtype, or every weight."""

from __future__ import annotations

from dataclasses import replace

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, set_seed

from utils import base_models
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.saved_models import lora_targets
from utils.training import fused_lora, fused_norm, packed_attention
from utils.training.settings import TrainingSettings


def load(base: BaseModel, compute: Compute, settings: TrainingSettings) -> PeftModel | PreTrainedModel:
    """The base model with what is to be trained. Where that is every weight, they are loaded in float32, whatever the
    arithmetic: rounded to bfloat16 the training would begin with a worse model than the base.

    Raises UserError as `base_models.load_model` and `add_adapter` do.
    """
    if settings.method == "full":
        compute = replace(compute, dtype=torch.float32)
    return add_adapter(base_models.load_model(base, compute), settings)


def add_adapter(model: PreTrainedModel, settings: TrainingSettings) -> PeftModel | PreTrainedModel:
    """Freezes the base and adds LoRA to the linear layers (`lora_targets`), with weights in float32: in float16 the
    gradient scaler could not unscale their gradients. With `method="full"` the model itself, every weight trainable.

    Raises UserError when every weight of a quantised model is to be trained, or when peft refuses the model.
    """
    set_seed(settings.seed)
    if model.device.type == "cpu":
        packed_attention.use(model)
    if settings.method == "full":
        if settings.quantization != "none":
            raise UserError("--method full trains every weight, and quantised ones can't be: add --quantization none")
        if hasattr(model.config, "rescale_every"):
            model.config.rescale_every = 0  # RWKV halves weights in place to be evaluated; checkpoints would hold that
        return model.to(torch.float32).requires_grad_(True)
    model.requires_grad_(False)
    try:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=lora_targets.choose(model),
            bias="none",
            use_rslora=settings.method == "rslora",
            use_dora=settings.method == "dora",
        )
        adapted = get_peft_model(model, config)
    except ValueError as error:  # no layer is left, or one is of a kind that peft doesn't know
        raise UserError(
            f"peft puts no LoRA on {type(model).__name__} ({' '.join(str(error).split())[:160]}); try --method full"
            " --quantization none, or another base model"
        ) from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    if model.device.type == "cpu":
        fused_norm.fuse(model)
        if settings.method != "dora":  # whose update is no plain product
            fused_lora.fuse(adapted, settings.lora_dropout)
    return adapted
