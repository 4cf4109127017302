"""RMSNorm with a frozen weight as one operation of autograd, for the CPU.

transformers' layer is six operations, of which autograd keeps three tensors as large as the input, two of them in
float32. What they hold follows from the input, which is kept anyway, and one number a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def fuse(model: PreTrainedModel) -> None:
    """Gives every RMSNorm whose weight is frozen the fused forward, where that computes the same to the bit: models
    differ in what they call by this name."""
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm") and _computes_the_same(layer):
            layer.forward = _Forward(layer)


class _Forward:
    """The forward of one layer. A class, since a model with a closure in it can't be copied or pickled."""

    def __init__(self, layer: nn.Module):
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _RmsNorm.apply(x, self.layer.weight, self.layer.variance_epsilon)


class _RmsNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x²) + ε) over the last dimension, in float32, and rounded before the product with w."""

    @staticmethod
    def forward(ctx: Any, x, weight, epsilon: float):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_y):
        if not ctx.needs_input_grad[0]:
            return None, None, None
        x, weight, scale = ctx.saved_tensors
        grad = (grad_y * weight).float()
        normal = x * scale  # in float32, as the scale is
        projection = (grad * normal).mean(-1, keepdim=True)
        return grad.sub_(normal.mul_(projection)).mul_(scale).to(x.dtype), None, None


def _computes_the_same(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    if weight is None or weight.requires_grad or not hasattr(layer, "variance_epsilon"):
        return False
    x = torch.linspace(-3, 3, 2 * weight.numel(), dtype=weight.dtype, device=weight.device).view(2, -1)
    with torch.no_grad():
        return torch.equal(layer(x), _Forward(layer)(x))
