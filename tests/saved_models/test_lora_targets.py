"""LoRA goes on every layer that can carry it, and a model in which some can't trains all the same."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Llama4TextConfig,
    MambaConfig,
    MixtralConfig,
    PhimoeConfig,
    RwkvConfig,
)

from utils import shared_weights
from utils.saved_models import lora_targets
from utils.training import lora
from utils.training.settings import TrainingSettings

SIZES = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS = {"num_local_experts": 2}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
LATENT = {
    "num_key_value_heads": 4,
    "num_attention_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
}
ODD = {
    "a router that returns two tensors": (
        Llama4TextConfig(**SIZES, **HEADS, **EXPERTS, head_dim=8, intermediate_size_mlp=48),
        ATTENTION | {"gate_proj", "up_proj", "down_proj"},  # of the expert that all tokens share
    ),
    "a router that returns three": (PhimoeConfig(**SIZES, **HEADS, **EXPERTS), ATTENTION),
    "experts that are no layers": (MixtralConfig(**SIZES, **HEADS, **EXPERTS), ATTENTION),
    "layers named like experts": (
        DeepseekV3Config(
            **SIZES, **LATENT, n_routed_experts=2, num_experts_per_tok=1, n_group=1, topk_group=1,
            moe_intermediate_size=16, first_k_dense_replace=1, qk_nope_head_dim=8, v_head_dim=8,
        ),
        {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},
    ),
    "a layer that a kernel reads past": (MambaConfig(**SIZES, state_size=4), {"in_proj", "x_proj"}),
    "layers that the model rescales": (
        RwkvConfig(**SIZES, attention_hidden_size=32),
        {"key", "receptance"} | {"value"},  # that of attention
    ),
}  # fmt: skip


def build(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def test_all_of_a_plain_model_are_chosen(model):
    chosen = lora_targets.choose(model)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    assert chosen == sorted(adapted.base_model.targeted_module_names)
    assert len(chosen) == 2 * 7


@pytest.mark.parametrize("case", ODD)
def test_the_same_layers_are_chosen_with_and_without_weights(case):
    config, wanted = ODD[case]
    chosen = lora_targets.choose(build(config))
    assert {name.rpartition(".")[2] for name in chosen} == wanted
    assert lora_targets.choose(shared_weights.skeleton(config)) == chosen


@pytest.mark.parametrize("case", ODD)
def test_every_chosen_layer_learns_from_the_loss(case, tmp_path):
    model = build(ODD[case][0])
    chosen = lora_targets.choose(model)
    run = TrainingSettings(output_dir=tmp_path, quantization="none", lora_dropout=0.1)
    adapted = lora.add_adapter(model, run).train()
    ids = torch.arange(5, 30)[None]
    adapted(input_ids=ids, labels=ids).loss.backward()
    learning = {name for name, parameter in adapted.named_parameters() if "lora_B" in name and parameter.grad.any()}
    assert learning == {f"base_model.model.{name}.lora_B.default.weight" for name in chosen}
    assert not adapted.peft_config["default"].target_parameters
