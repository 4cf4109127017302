"""Weights that FSDP has split among the processes."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor


def gathered_weights(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The trained weights, put together from the shards of all processes, which must all call this; None for a model
    that is not split."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return None
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: weight.full_tensor() if isinstance(weight, DTensor) else weight for name, weight in trained.items()}
