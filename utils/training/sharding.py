"""Weights that FSDP has split among the processes."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from the shards of all processes, which must all call this; any other one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered_weights(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """The trained weights of a model that is split, by name; None for any other. All processes must call this."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return None
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: whole(weight) for name, weight in trained.items()}


def load_whole(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Puts back what `gathered_weights` gave; each process takes its own shards out of the whole tensors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                weight = weights[name].to(parameter.device)
                if isinstance(parameter, DTensor):
                    weight = distribute_tensor(weight, parameter.device_mesh, parameter.placements, src_data_rank=None)
                parameter.copy_(weight)
