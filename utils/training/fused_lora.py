"""LoRA on a frozen linear layer as one operation of autograd, for the CPU.

peft's layer is a dozen operations, each with a tensor of its own to write, keep and read again: casts, dropout, two
products, a scaling, a sum, and as many backward. Here dropout is one `and` with a mask of bits, its scale and LoRA's
are one factor, and the update is added into the layer's output where that stands.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

ADAPTER = "default"  # peft's name of the only adapter


def fuse(model: PeftModel, dropout: float) -> None:
    """Gives every LoRA layer on an unquantised or 4-bit linear layer the fused forward, in training and without.

    `dropout` is rounded to a multiple of 1/256; the scale matches, so that the expectation is exact.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and type(layer.get_base_layer()) in (nn.Linear, Linear4bit):
            layer.forward = _Forward(layer, round(dropout * 256))


class _Forward:
    """The forward of one layer. A class, since a model with a closure in it can't be copied or pickled."""

    def __init__(self, layer: LoraLayer, threshold: int):
        self.layer = layer
        self.threshold = threshold

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer, base = self.layer, self.layer.get_base_layer()
        if layer.disable_adapters or layer.merged:
            return type(layer).forward(layer, x)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        scale = layer.scaling[ADAPTER]
        draws = None
        if layer.training and self.threshold:
            draws = _draw_bytes(x)
            scale *= 256 / (256 - self.threshold)
        lora_a, lora_b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        return _LoraLinear.apply(x, lora_a, lora_b, draws, self.threshold, base, scale)


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + bias + scale (x ∘ keep) Aᵀ Bᵀ, with x (..., I), W (O, I), A (R, I), B (O, R), y (..., O).

    What is kept follows from `draws`, a byte for each element of x, and `threshold`; only the bytes are remembered for
    the backward pass. W is frozen and, in 4 bits, unpacked once forward and once backward. A and B may have another
    dtype than x, which sets that of the products.
    """

    @staticmethod
    def forward(ctx: Any, x, lora_a, lora_b, draws, threshold: int, base: nn.Linear, scale: float):
        rows = x.reshape(-1, x.shape[-1])  # (T, I)
        dropped = rows if draws is None else _drop(rows, draws, threshold)
        reduced = dropped @ lora_a.to(x.dtype).t()  # (T, R)
        bias = None if base.bias is None else base.bias.to(x.dtype)
        y = nn.functional.linear(rows, _weight(base, x.dtype), bias)
        y.addmm_(reduced, lora_b.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(rows, lora_a, lora_b, draws, reduced)
        ctx.threshold, ctx.base, ctx.scale = threshold, base, scale
        # autograd lets nobody change a view of a custom function in place, as Gemma 3n does with what it gets here
        return torch.ops.aten._unsafe_view(y, [*x.shape[:-1], y.shape[-1]])

    @staticmethod
    def backward(ctx: Any, grad_y):
        rows, lora_a, lora_b, draws, reduced = ctx.saved_tensors
        keep = None if draws is None else _keep_bits(draws, ctx.threshold, rows.element_size())
        grad = grad_y.reshape(-1, grad_y.shape[-1])  # (T, O)
        grad_reduced = (grad @ lora_b.to(grad.dtype)).mul_(ctx.scale)  # (T, R)
        grad_b = (grad.t() @ reduced).mul_(ctx.scale).to(lora_b.dtype)
        grad_a = (grad_reduced.t() @ (rows if keep is None else _masked(rows, keep))).to(lora_a.dtype)
        grad_x = None
        if ctx.needs_input_grad[0]:
            through_lora = grad_reduced @ lora_a.to(grad.dtype)  # (T, I)
            grad_x = through_lora if keep is None else _masked(through_lora, keep, in_place=True)
            grad_x.addmm_(grad, _weight(ctx.base, grad.dtype))
            grad_x = grad_x.view(*grad_y.shape[:-1], -1)
        return grad_x, grad_a, grad_b, None, None, None, None


def _weight(base: nn.Linear, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(base, Linear4bit):
        return dequantize_4bit(base.weight, base.weight.quant_state).to(dtype)
    return base.weight.to(dtype)


def _draw_bytes(x: torch.Tensor) -> torch.Tensor:
    """A random byte, -128 to 127, for each element of x; (T, I) where x is (..., I).

    torch's own dropout draws one random number an element, which took a fifth of a training step; a 64-bit draw serves
    eight elements here. It comes from torch's default generator, so that a restored state repeats the bytes.
    """
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int8)[: x.numel()].view(-1, x.shape[-1])


def _keep_bits(draws: torch.Tensor, threshold: int, width: int) -> torch.Tensor:
    """All bits set where an element is kept and none where it is dropped, which happens with threshold / 256.

    Integers of `width` bytes, that of the elements, so that dropout is `and`. A byte is kept below 128 - threshold: the
    difference's sign, shifted over all bits, took a quarter of the time of a comparison.
    """
    integers = {2: torch.int16, 4: torch.int32}[width]
    return draws.to(integers).sub_(128 - threshold).bitwise_right_shift_(8 * width - 1)


def _drop(x: torch.Tensor, draws: torch.Tensor, threshold: int) -> torch.Tensor:
    keep = _keep_bits(draws, threshold, x.element_size())
    return keep.bitwise_and_(x.view(keep.dtype)).view(x.dtype)


def _masked(x: torch.Tensor, keep: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
    bits = x.view(keep.dtype)
    return (bits.bitwise_and_(keep) if in_place else bits & keep).view(x.dtype)
