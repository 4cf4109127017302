"""A base's weights in 4 or 8 bits, by bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from transformers import BitsAndBytesConfig
from transformers.quantizers.base import get_keys_to_not_convert

from utils import shared_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def settings(quantization: Literal["nf4", "int8"], dtype: torch.dtype, config: PreTrainedConfig) -> BitsAndBytesConfig:
    """How transformers is to quantise the model of this configuration, which then computes in `dtype`. The head stays
    as it is, as do layers whose weights the model uses by itself."""
    bare = shared_weights.skeleton(config)
    used = shared_weights.find(bare)
    left = sorted({*used, *get_keys_to_not_convert(bare)}) if used else None  # None lets transformers find the head
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=left)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=left,
    )


def keep_unpacked(model: PreTrainedModel) -> None:
    """On CPUs with AVX512-BF16, bitsandbytes repacks 4-bit weights at the first forward in eval mode, for a bfloat16
    kernel without a backward: logits change, and training that goes on afterwards gets wrong gradients in silence."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
