"""Attention over a packed row, one sequence after the other, for the CPU.

transformers hands scaled_dot_product_attention a mask over the whole row, so that the row costs the square of its
length, and most of that is masked away. Sequence by sequence, each costs the square of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from utils.likelihood import shares_prefixes

NAME = "packed_sdpa"


def use(model: PreTrainedModel) -> None:
    """Lets the model attend sequence by sequence, where all of its layers attend to all that came before."""
    if not shares_prefixes(model):
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
    sequence, at p where it shares the row's first p tokens (see `likelihood.collate`). Returns (1, T, H, D). Anything
    but such a row goes to transformers' own function with its mask.

    The shared tokens attend again with each sequence that shares them: few, in one call of the square form that the
    kernel is fast at.

    bfloat16 is computed in float32, which is faster for sequences of chat length, and more exact. For the backward pass
    only the arguments are remembered and the rest is computed again: that took 400 MiB off a row of 1,024 tokens of the
    starter.
    """
    if position_ids is None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    restarts = (position_ids[0].diff() != 1).nonzero().flatten() + 1
    begins = [0, *position_ids[0, restarts].tolist()]
    bounds = [max(begins), *restarts.tolist(), query.shape[2]]
    attend_each = partial(_attend_each, begins=begins, bounds=bounds, dropout=dropout, scaling=scaling)
    attended = checkpoint(
        attend_each, query, key, value, use_reentrant=False, preserve_rng_state=dropout > 0, determinism_check="none"
    )
    return attended.transpose(1, 2), None


def _attend_each(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    begins: Sequence[int],
    bounds: Sequence[int],
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Each sequence's attention, (1, H, T, D). `begins` are the sequences' first positions, `bounds` where in the row
    the shared prefix and each sequence end."""
    prefix = max(begins)
    lengths = [prefix, *(end - start for start, end in pairwise(bounds))]
    groups = query.shape[1] // key.shape[1]
    with torch.autocast("cpu", enabled=False):  # which would make bfloat16 of float32 again
        # split, whose backward writes each piece once; that of a slice writes a whole row of zeros
        queries, keys, values = (
            part.float().repeat_interleave(repeats, 1).split(lengths, dim=2)
            for part, repeats in ((query, 1), (key, groups), (value, groups))
        )
        attended = []
        for number, begin in enumerate(begins, start=1):
            shares = prefix > 0 and (begin > 0 or number == 1)
            q, k, v = (
                torch.cat((parts[0], parts[number]), dim=2) if shares else parts[number]
                for parts in (queries, keys, values)
            )
            found = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
            attended.append(found[:, :, prefix:] if shares and number > 1 else found)
        return torch.cat(attended, dim=2).to(query.dtype)
