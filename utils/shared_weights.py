"""Linear layers whose weights the model uses past them as well: it clips them, rescales them, or multiplies by them in
a formula of its own. Packed into 4 bits they are no use to it, and an update beside such a layer would be passed by."""

from __future__ import annotations

import contextlib
import copy
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_LOOKS = {"dtype", "device", "shape", "size", "dim", "ndim", "is_cuda"}  # questions about a weight, no use of it
_NUMBER = re.compile(r"\.\d+\.")


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The causal language model of this configuration without its weights, on the meta device; unquantised, even if the
    configuration is that of a model which is loaded quantised."""
    from transformers import AutoModelForCausalLM

    bare = copy.deepcopy(config)
    for mark in ("quantization_config", "_is_quantized"):
        vars(bare).pop(mark, None)
    with torch.device("meta"):  # in bfloat16, since torch multiplies stacked experts in no other dtype there
        return AutoModelForCausalLM.from_config(
            bare, dtype=torch.bfloat16, attn_implementation="eager", trust_remote_code=False
        )


def find(bare: PreTrainedModel) -> set[str]:
    """The names of these layers, the head aside, in a `skeleton`, which is changed. It is watched while it computes on
    four tokens, in training and without. Experts may need weights to go on, so that it stops in its first block: layers
    of the same name in the others count as well."""
    ids = torch.zeros(1, 4, dtype=torch.long, device="meta")
    all_seen = torch.ones(1, 1, 4, 4, dtype=torch.bool, device="meta")  # of a whole mask nobody asks for values
    watch = _Watch(bare)
    for training in (True, False):
        for mask in (all_seen, None):  # Mamba takes no such mask
            with watch, torch.no_grad(), contextlib.suppress(Exception):  # whatever a model raises without numbers
                bare.train(training)(input_ids=ids, attention_mask=mask, use_cache=False)
                break
    found = {_NUMBER.sub(".", name) for name in watch.found}
    return {name for name in watch.owners.values() if _NUMBER.sub(".", name) in found}


class _Watch(TorchFunctionMode):
    """Notes whose weight is used while its layer is not at work."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.owners: dict[int, str] = {}
        self.at_work: set[str] = set()
        self.found: set[str] = set()
        head = model.get_output_embeddings()
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | Conv1D) and layer is not head:
                self.owners[id(layer.weight)] = name
                layer.register_forward_pre_hook(lambda *_, name=name: self.at_work.add(name))
                layer.register_forward_hook(lambda *_, name=name: self.at_work.discard(name))

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        asked = getattr(getattr(func, "__self__", None), "__name__", func.__name__)  # of a property, its own name
        if asked not in _LOOKS:
            used = {self.owners[id(each)] for each in (*args, *kwargs.values()) if id(each) in self.owners}
            self.found |= used - self.at_work
        return func(*args, **kwargs)
