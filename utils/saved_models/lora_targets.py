"""Which layers LoRA goes on: every linear layer but the head, as far as peft can add an update to what it returns."""

from __future__ import annotations

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from utils import shared_weights

_PLAIN = (nn.Linear, Conv1D, Linear4bit, Linear8bitLt)


def choose(model: PreTrainedModel) -> list[str]:
    """The names of these layers, the same for a model with weights, with quantised ones and with none (on meta).

    Raises ValueError as peft does, when it can't tell the layers of a mixture of experts apart.
    """
    head = model.get_output_embeddings()
    passed_by = shared_weights.find(shared_weights.skeleton(model.config))
    config = LoraConfig(task_type="CAUSAL_LM")
    config.target_modules = {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D)
        and layer is not head
        and name not in passed_by
        and _returns_its_product(layer)
        and _allowed(config, model, name)
    }
    # peft takes some names for the experts of transformers 4, which are no layers any more but stacked parameters, and
    # would adapt those instead, without dropout; what is left are layers.
    convert_peft_config_for_transformers(config, model=model, conversions=None)
    return sorted(config.target_modules)


def _returns_its_product(layer: nn.Module) -> bool:
    """Whether one tensor (N, O) comes out for (N, I). Some routers are linear layers by their class, and return which
    experts they chose as well."""
    if type(layer) in _PLAIN:
        return True
    x = layer.weight.new_zeros(2, layer.weight.shape[1])
    try:
        with torch.no_grad():
            y = layer(x)
    except (RuntimeError, ValueError, TypeError):  # it wants another shape, or cannot do without numbers
        return False
    return isinstance(y, torch.Tensor) and y.shape == (2, layer.weight.shape[0])


def _allowed(config: LoraConfig, model: PreTrainedModel, name: str) -> bool:
    """peft refuses some layers of Mamba's, whose weights a fused kernel reads past them."""
    try:
        LoraModel._check_target_module_compatiblity(None, config, model, name.rpartition(".")[2])
    except ValueError:
        return False
    return True
