"""One model out of base and adapter: safetensors with tokenizer, chat template and generation settings. A model that is
whole already is only written."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from utils import base_models, output_folders, prompts
from utils.base_models import BaseModel, Compute
from utils.console import UserError

# Replies are drawn as test_model_loading.py draws them, also where another program's own habits would come in.
TEMPERATURE, TOP_P, TOP_K = 0.7, 0.9, 0
MAX_REPLY_TOKENS = 256


def write(
    model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype
) -> None:
    """Merges a float32 model on an unquantised base in place, rounds once to `dtype`, and saves it into `folder`.

    Merging onto a quantised base would quantise the update away with it; in float32 only the last step rounds.

    Raises UserError when the merged weights are not finite, in float32 or in `dtype`.
    """
    try:
        merged = model.merge_and_unload(safe_merge=True) if isinstance(model, PeftModel) else model
    except ValueError as error:  # what peft raises for NaN
        raise UserError(f"the adapter can't be merged: {' '.join(str(error).split())[:200]}") from error
    merged = merged.to(dtype)
    broken = [name for name, weight in merged.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise UserError(f"{broken[0]} has values that {str(dtype)[6:]} can't hold; this model can't be exported")
    merged.config.use_cache = True
    merged.generation_config = generation_settings(tokenizer)
    merged.save_pretrained(folder)
    output_folders.let_umask_decide(folder, "config.json")
    tokenizer.save_pretrained(folder)


def load(folder: Path, compute: Compute) -> PreTrainedModel:
    """What was written, as it will be used: in float16 on a GPU, in float32 where float16 is slow."""
    dtype = torch.float16 if compute.device.type == "cuda" else torch.float32
    return base_models.load_model(BaseModel(folder.name, str(folder)), Compute(compute.device, dtype, "none")).eval()


def generation_settings(tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """How replies are drawn, and that any of the tokens that end a turn ends them."""
    return GenerationConfig(
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=TOP_K,
        max_new_tokens=MAX_REPLY_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(prompts.end_of_turn_ids(tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )
