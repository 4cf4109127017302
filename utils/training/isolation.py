"""What a token of a row can see in a model: found out by asking for gradients, since no configuration says it.
Recurrent and convolutional layers run on from one sequence into the next, some models with attention make their mask
without looking at the positions, and some that load as causal language models look ahead."""

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
    for shared in [False, True] if shares_prefixes(model) else [False]:
        prefix = own if shared else 0
        gradient = _gradient(model, collate(pair, share_prefix=shared), slice(len(ids) - own - 1, None), compute)
        if gradient[prefix : len(ids)].any():
            return False
    return True


def looks_ahead(model: PreTrainedModel, token_ids: tuple[int, ...], compute: Compute) -> bool:
    """Whether a token's loss has a gradient in the embedding of a later one: an encoder, or a model of which half is
    one, that transformers loads as a causal language model all the same. As `keeps_sequences_apart` otherwise."""
    ids = token_ids[:LENGTH]
    sequence = Encoded(ids, ((1, len(ids)),))
    return bool(_gradient(model, collate([sequence]), slice(0, 1), compute)[1:].nan_to_num().any())


def _gradient(
    model: PreTrainedModel, collated: dict[str, torch.Tensor], which: slice, compute: Compute
) -> torch.Tensor:
    """The gradient (T, D) of the losses `which` in the embeddings of a row of T tokens."""
    row = {name: tensor.to(compute.device) for name, tensor in collated.items()}
    embedded: list[torch.Tensor] = []

    def watch(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # which a model may scale where it stands

    hook = model.get_input_embeddings().register_forward_hook(watch)
    was_training = model.training
    try:
        with (
            torch.random.fork_rng(devices=[compute.device] if compute.device.type == "cuda" else []),
            torch.autocast(compute.device.type, compute.dtype, enabled=compute.dtype != torch.float32),
        ):
            losses = token_nll(model.eval(), row)
    finally:
        hook.remove()
        model.train(was_training)
    (gradient,) = torch.autograd.grad(losses[which].sum(), embedded[:1])
    return gradient.reshape(-1, gradient.shape[-1])  # XLNet embeds (T, B)
