"""Whether the sequences of a row stay apart in a model: found out by asking for gradients, since no configuration says
it. Recurrent and convolutional layers run on from one sequence into the next, and some models with attention make their
mask without looking at the positions."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from utils.base_models import Compute
from utils.likelihood import collate, shares_prefixes, takes_positions, token_nll
from utils.prompts import Encoded

LENGTH = 8


def keeps_sequences_apart(model: PreTrainedModel, token_ids: tuple[int, ...], compute: Compute) -> bool:
    """Whether positions can restart in a row, and the loss of its second sequence has no gradient at all in the first
    one's embeddings, in each kind of row that training makes for this model. A mask that hides a token makes it exactly
    0, in any dtype.

    Both sequences are the first `LENGTH` of `token_ids`. Weights, their gradients and torch's generator stay as they
    are.
    """
    if not takes_positions(model):
        return False
    ids = token_ids[:LENGTH]
    own = len(ids) // 2
    pair = [Encoded(ids, ((own + 1, len(ids)),))] * 2  # a shared prefix of them ends at `own`
    kinds = [False, True] if shares_prefixes(model) else [False]
    was_training = model.training
    with torch.random.fork_rng(devices=[compute.device] if compute.device.type == "cuda" else []):
        apart = all(_apart(model.eval(), pair, own if shared else 0, compute) for shared in kinds)
    model.train(was_training)
    return apart


def _apart(model: PreTrainedModel, pair: list[Encoded], prefix: int, compute: Compute) -> bool:
    collated = collate(pair, share_prefix=bool(prefix))
    row = {name: tensor.to(compute.device) for name, tensor in collated.items()}
    embedded: list[torch.Tensor] = []

    def watch(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = model.get_input_embeddings().register_forward_hook(watch)
    try:
        with torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32):
            losses = token_nll(model, row)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(losses[len(losses) // 2 :].sum(), embedded[:1])
    return not gradient[0, prefix : len(pair[0].input_ids)].any()
