"""Attention over a packed row, one sequence after the other, for the CPU.

transformers hands scaled_dot_product_attention a mask over the whole row, so that the row costs the square of its
length, and most of that is masked away. Sequence by sequence, each costs the square of its own.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed_sdpa"


def use(model: PreTrainedModel) -> None:
    """Lets the model attend sequence by sequence, where all of its layers attend to all that came before."""
    config = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return
    if getattr(config, "sliding_window", None) or getattr(config, "attn_logit_softcapping", None):
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Query (1, H, T, D), key and value (1, K, T, D), where H is a multiple of K; positions (1, T) restart with each
    sequence. Returns (1, T, H, D). Anything but such a row goes to transformers' own function with its mask.

    bfloat16 is computed in float32, which is faster for sequences of chat length, and more exact.
    """
    if position_ids is None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    starts = (position_ids[0] == 0).nonzero().flatten().tolist()
    groups = query.shape[1] // key.shape[1]
    wide = [part.float() for part in (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))]
    attended = [
        scaled_dot_product_attention(
            *(part[:, :, start:end] for part in wide), dropout_p=dropout, is_causal=True, scale=scaling
        )
        for start, end in zip(starts, [*starts[1:], query.shape[2]], strict=True)
    ]
    return torch.cat(attended, dim=2).transpose(1, 2).to(query.dtype), None
