"""Which layers a model uses past their forward, seen without any weights."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    FalconConfig,
    GPT2Config,
    JambaConfig,
    LlamaConfig,
    LongcatFlashConfig,
    MambaConfig,
    RwkvConfig,
)

from utils import base_models, shared_weights
from utils.base_models import BaseModel, Compute

SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
RWKV = RwkvConfig(**SIZES, attention_hidden_size=32, rescale_every=1)
USED = {
    "a tied head": (LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=True), set()),
    "a linear layer of its own making": (FalconConfig(**SIZES, num_attention_heads=4), set()),
    "transposed layers": (GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4), set()),
    "multiplied by hand": (MambaConfig(**SIZES, state_size=4), {f"backbone.layers.{i}.mixer.dt_proj" for i in (0, 1)}),
    "beside experts": (
        JambaConfig(**SIZES, **HEADS, attn_layer_period=2, attn_layer_offset=1, num_experts=2, use_mamba_kernels=False),
        {"model.layers.0.mamba.dt_proj"},
    ),
    "in a block that meta tensors don't get beyond": (
        LongcatFlashConfig(
            vocab_size=400, hidden_size=32, num_layers=2, num_attention_heads=4, ffn_hidden_size=48,
            expert_ffn_hidden_size=16, n_routed_experts=4, zero_expert_num=2, moe_topk=2, q_lora_rank=8,
            kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, head_dim=8,
        ),
        {f"model.layers.{i}.mlp.router.classifier" for i in (0, 1)},
    ),
    "rescaled outside training": (
        RWKV,
        {f"rwkv.blocks.{i}.{name}" for i in (0, 1) for name in ("attention.output", "feed_forward.value")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", USED)
def test_layers_whose_weights_are_used_past_them_are_found(case):
    config, wanted = USED[case]
    assert shared_weights.find(shared_weights.skeleton(config)) == wanted


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_they_and_the_head_stay_unquantised_and_the_model_computes(quantization, tiny_base, tmp_path):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(RWKV).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path)
    base = BaseModel("rwkv", str(tmp_path))
    model = base_models.load_model(base, Compute(torch.device("cpu"), torch.float32, quantization))
    plain = {name for name, layer in model.named_modules() if type(layer) is torch.nn.Linear}
    assert plain == {"head", *USED["rescaled outside training"][1]}
    assert type(model.rwkv.blocks[0].attention.key) is not torch.nn.Linear
    assert shared_weights.find(shared_weights.skeleton(model.config)) == plain - {"head"}
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits
        rounding = 1e-3 if quantization == "nf4" else 0.05  # 8 bits round activations as well
        torch.testing.assert_close(model.train()(input_ids=ids).logits, logits, atol=rounding, rtol=0)
