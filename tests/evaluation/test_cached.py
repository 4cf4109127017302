"""A model that can't go on from a cache answers as one that can: from everything that was said."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    OpenAIGPTConfig,
    RwkvConfig,
)

from utils.evaluation import cached, generation
from utils.evaluation.settings import EvaluationSettings

SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
DECODER = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
GPT = {"vocab_size": 400, "n_embd": 32, "n_layer": 2, "n_head": 4}
GOES_ON = {
    "llama": LlamaConfig(**SIZES, **HEADS),
    "gpt2": GPT2Config(**GPT),
    "a convolution": Lfm2Config(**SIZES, **HEADS, layer_types=["conv", "full_attention"], block_ff_dim=48),
    "no positions": BartConfig(vocab_size=400, **DECODER, is_decoder=True, is_encoder_decoder=False),
}
LEAVES_IT = {
    "no cache at all": OpenAIGPTConfig(**GPT),
    "a state of its own": RwkvConfig(**SIZES, attention_hidden_size=32),
    "a cache by another name": MambaConfig(**SIZES, state_size=4),
}
SETTINGS = EvaluationSettings(temperature=0.0, max_new_tokens=6)
PROMPTS = [list(range(start, 40)) for start in (10, 20, 30)]


def build(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # far from uniform, so that what was said decides what follows
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("case", [*GOES_ON, *LEAVES_IT])
def test_who_goes_on_from_a_cache(case):
    assert cached.goes_on(build((GOES_ON | LEAVES_IT)[case]), PROMPTS[0]) is (case in GOES_ON)


def test_a_model_that_breaks_over_the_cache_does_without(monkeypatch):
    model = build(GOES_ON["llama"])
    forward = type(model).forward

    def brittle(self, *args, past_key_values=None, **kwargs):
        if past_key_values is not None:
            raise AttributeError("this cache keeps no index")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", brittle)
    assert not cached.goes_on(model, PROMPTS[0])


@pytest.mark.parametrize("case", [*GOES_ON, *LEAVES_IT])
def test_each_token_follows_from_all_before_it_alone_and_in_a_batch(case):
    model = build((GOES_ON | LEAVES_IT)[case])
    ends = {399}
    for prompt, completion in zip(PROMPTS, generation.complete(model, PROMPTS, ends, SETTINGS), strict=True):
        said = list(prompt)
        for token in completion.tokens:
            with torch.no_grad():
                assert model(input_ids=torch.tensor([said]), use_cache=False).logits[0, -1].argmax() == token
            said.append(token)
        assert len(completion.tokens) == SETTINGS.max_new_tokens
