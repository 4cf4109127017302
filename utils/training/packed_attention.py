"""Attention over a packed row, one sequence after the other, for the CPU.

transformers hands scaled_dot_product_attention a mask over the whole row, so that the row costs the square of its
length, and most of that is masked away. Sequence by sequence, each costs the square of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from utils.likelihood import shares_prefixes

NAME = "packed_sdpa"

# what scaled_dot_product_attention calls on a CPU, with the sums that its backward pass asks for
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def use(model: PreTrainedModel) -> None:
    """Lets the model attend sequence by sequence, where all of its layers attend to all that came before by
    scaled_dot_product_attention; one without it may add to the sums what this would leave out."""
    if model.config._attn_implementation != "sdpa" or not shares_prefixes(model):
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
    but such a row, dropout, and layers that see what follows go to transformers' own function with its mask.
    """
    one_row = position_ids is not None and query.shape[0] == 1 and query.shape[2:] == key.shape[2:] == value.shape[2:]
    if not one_row or dropout or not getattr(module, "is_causal", True):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    return _PackedAttention.apply(query, key, value, _sequences(position_ids[0]), scaling), None


def _sequences(positions: torch.Tensor) -> list[tuple[int, slice]]:
    """Of each sequence of a row with these positions (T,): how many of the row's first tokens it sees, and which tokens
    are its own. Those that others see are the first sequence's own."""
    restarts = (positions.diff() != 1).nonzero().flatten() + 1
    shared = [0, *positions[restarts].tolist()]
    bounds = pairwise([0, *restarts.tolist(), len(positions)])
    return [(seen, slice(start, end)) for seen, (start, end) in zip(shared, bounds, strict=True)]


class _PackedAttention(torch.autograd.Function):
    """softmax(q kᵀ · scale) v of each sequence, causal: shapes as in `attend`, the result (1, T, H, D).

    The shared tokens attend again with each sequence that shares them: few, in one call of the square form that the
    kernel is fast at.

    bfloat16 is computed in float32, which is faster for sequences of chat length, and more exact. For the backward pass
    the arguments are remembered as they came, 400 MiB less than float32 in a row of 1,024 tokens of the starter, the
    result, which the next layer remembers anyway, and the logarithms of the sums.
    """

    @staticmethod
    def forward(ctx: Any, query, key, value, sequences: list[tuple[int, slice]], scaling: float | None):
        result = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
        log_sums = []
        for shared, own in sequences:
            found, log_sum = _forward(*_operands(query, key, value, shared, own), 0.0, True, scale=scaling)
            result[:, own] = found[:, :, shared:].transpose(1, 2)
            log_sums.append(log_sum)
        ctx.save_for_backward(query, key, value, result, *log_sums)
        ctx.sequences, ctx.scaling = sequences, scaling
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        query, key, value, result, *log_sums = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in (query, key, value)]
        for (shared, own), log_sum in zip(ctx.sequences, log_sums, strict=True):
            grad_own = _with_prefix(grad.transpose(1, 2), 0, own)
            if shared:  # whose own results were taken from the first sequence
                grad_own = torch.nn.functional.pad(grad_own, (0, 0, shared, 0))
            found = _backward(
                grad_own,
                *_operands(query, key, value, shared, own),
                _with_prefix(result.transpose(1, 2), shared, own),
                log_sum,
                0.0,
                True,
                scale=ctx.scaling,
            )
            for gradient, part in zip(gradients, found, strict=True):
                part = part.unflatten(1, (gradient.shape[1], -1)).sum(2)  # over the queries' heads of a key's head
                gradient[:, :, :shared] += part[:, :, :shared]
                gradient[:, :, own] += part[:, :, shared:]
        return *(gradient.to(query.dtype) for gradient in gradients), None, None


def _operands(query, key, value, shared: int, own: slice) -> list[torch.Tensor]:
    """Query, key and value of a sequence with its prefix, (1, H, S, D) each, in float32."""
    groups = query.shape[1] // key.shape[1]
    wide = [_with_prefix(tensor, shared, own) for tensor in (query, key, value)]
    return [wide[0], *(tensor.repeat_interleave(groups, dim=1) for tensor in wide[1:])]


def _with_prefix(tensor: torch.Tensor, shared: int, own: slice) -> torch.Tensor:
    """(1, ?, S, D) of (1, ?, T, D), in float32."""
    part = tensor[:, :, own]
    return (torch.cat((tensor[:, :, :shared], part), dim=2) if shared else part).float()
