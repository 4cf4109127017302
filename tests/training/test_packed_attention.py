"""Attending sequence by sequence gives what one masked pass over the row gives."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from utils.likelihood import collate, token_nll
from utils.prompts import Encoded
from utils.training import packed_attention

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize("lengths", [(9,), (5, 1, 7), (3, 3, 3, 3)])
def test_logits_and_gradients_are_those_of_the_masked_row(lengths):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    ids = torch.randint(60, (1, sum(lengths)))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        logits.square().sum().backward()
        return logits, model.model.embed_tokens.weight.grad.clone()

    wanted = run()
    packed_attention.use(model)
    assert model.config._attn_implementation == packed_attention.NAME
    for found, expected in zip(run(), wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(9, 5), (7, 1, 12), (4, 4, 4, 20)])
def test_sequences_that_share_a_prefix_see_what_the_mask_lets_them_see(lengths):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    prefix = (7, 8, 9, 10, 11)
    sequences = [Encoded((*prefix, *torch.randint(60, (length,)).tolist()), ((6, 5 + length),)) for length in lengths]
    row = collate(sequences, share_prefix=True)

    def run() -> tuple[torch.Tensor, ...]:
        model.zero_grad()
        losses = token_nll(model, row)
        losses.sum().backward()
        return losses, *(parameter.grad.clone() for parameter in model.parameters())

    wanted = run()
    packed_attention.use(model)
    assert model.config._attn_implementation == packed_attention.NAME
    for found, expected in zip(run(), wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("value_dim", [40, 24])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
def test_another_scale_odd_heads_and_narrower_values_are_those_of_one_masked_pass(heads, value_dim):
    """Two sequences with a prefix of three tokens in common, and a filler."""
    torch.manual_seed(0)
    positions = torch.tensor([[*range(9), *range(3, 8), *range(2)]])
    owner = torch.tensor([0] * 3 + [1] * 6 + [2] * 5 + [3] * 2)
    seen = (owner[:, None] == owner) | ((owner == 0) & (owner[:, None] != 3))
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = heads[0] // heads[1], True
    shapes = [(heads[0], 40), (heads[1], 40), (heads[1], value_dim)]
    operands = [torch.randn(1, count, 16, size, requires_grad=True) for count, size in shapes]
    weights = torch.randn(1, 16, heads[0], value_dim)

    def run(attention, **more) -> list[torch.Tensor]:
        result, _ = attention(module, *operands, seen.tril()[None, None], scaling=0.3, **more)
        return [result, *torch.autograd.grad((result * weights).sum(), operands)]

    found = run(packed_attention.attend, position_ids=positions)
    for one, other in zip(found, run(packed_attention.sdpa_attention_forward), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_padded_batches_and_cached_generation_go_on_as_before():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    ids = torch.randint(3, 60, (2, 8))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            return logits, model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False)

    logits, replies = run()
    packed_attention.use(model)
    found = run()
    torch.testing.assert_close(found[0], logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(found[1], replies)


def test_a_model_with_a_sliding_window_keeps_its_own_attention():
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
    packed_attention.use(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_saved_model_does_not_ask_for_it(tmp_path):
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    packed_attention.use(model)
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
