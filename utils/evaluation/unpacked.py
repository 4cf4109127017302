"""4-bit layers on the CPU unpacked once, where memory allows, instead of in every forward pass.

A reply of 64 tokens would unpack the whole model 64 times. The values are those that a 4-bit layer computes with, so
every logit stays what it was.
"""

from __future__ import annotations

import psutil
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn

FREE_SHARE = 0.5  # of the memory that is available may be taken


def unpack(model: nn.Module, dtype: torch.dtype) -> bool:
    """Puts a plain layer in the place of each 4-bit one, in `dtype`, which must be that of the computation; says
    whether it did. A GPU unpacks within the product, so a model there is left alone, as one that would not fit is."""
    packed = [(name, layer) for name, layer in model.named_modules() if type(layer) is Linear4bit]
    needed = sum(layer.in_features * layer.out_features for _, layer in packed) * dtype.itemsize
    on_cpu = all(layer.weight.device.type == "cpu" for _, layer in packed)
    if not packed or not on_cpu or needed > FREE_SHARE * psutil.virtual_memory().available:
        return False
    for name, layer in packed:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, _plain(layer, dtype))
    return True


def _plain(layer: Linear4bit, dtype: torch.dtype) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta", dtype=dtype)
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
    return plain.eval()
