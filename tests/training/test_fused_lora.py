"""The fused LoRA layer computes what peft's does, and its dropout is honest."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from utils import base_models
from utils.base_models import BaseModel, Compute
from utils.training import fused_lora

CPU = torch.device("cpu")


@pytest.fixture
def adapted(tiny_base):
    """The tiny model with LoRA whose B is not zero, not fused."""

    def make(quantization="none", dtype=torch.float32):
        base = base_models.load_model(BaseModel("tiny", str(tiny_base)), Compute(CPU, dtype, quantization))
        base.requires_grad_(False)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.05)
        return model

    return make


def gradients(model) -> dict[str, torch.Tensor]:
    ids = torch.arange(1, 24)[None]
    with torch.autocast("cpu", model.dtype, enabled=model.dtype != torch.float32):
        model(input_ids=ids, labels=ids).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_and_gradients_are_those_of_peft(adapted, quantization, dtype):
    model = adapted(quantization, dtype).train()
    fused = copy.deepcopy(model)
    fused_lora.fuse(fused, dropout=0.0)
    exact = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 5e-2}
    ids = torch.arange(1, 24)[None]
    torch.testing.assert_close(fused(input_ids=ids).logits, model(input_ids=ids).logits, **exact)
    wanted, found = gradients(model), gradients(fused)
    assert found.keys() == wanted.keys()
    assert len(found) == 2 * 7 * 2  # A and B of seven layers in two blocks
    for name in wanted:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], wanted[name], **exact)


def test_without_training_or_with_the_adapter_off_nothing_is_dropped_or_added(adapted):
    model = adapted()
    ids = torch.arange(1, 24)[None]
    tuned = model.eval()(input_ids=ids).logits
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    fused_lora.fuse(model, dropout=0.5)
    torch.testing.assert_close(model(input_ids=ids).logits, tuned, atol=1e-5, rtol=1e-4)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_the_stated_share_keeps_the_mean_and_repeats_with_the_generator(dtype):
    class Layer(torch.nn.Module):  # x -> 0 x + 1 x
        def __init__(self):
            super().__init__()
            base = torch.nn.Linear(40, 40, bias=False)
            base.weight.data.zero_()
            self.lora = get_peft_model(torch.nn.Sequential(base), LoraConfig(r=40, lora_alpha=40, target_modules=["0"]))
            for part in ("lora_A", "lora_B"):
                torch.nn.init.eye_(getattr(self.lora.base_model.model[0], part)["default"].weight)

    layer = Layer().train()
    fused_lora.fuse(layer, dropout=0.1)
    x = torch.ones(1000, 40, dtype=dtype)
    torch.manual_seed(3)
    first = layer.lora.base_model.model[0](x)
    torch.manual_seed(3)
    assert torch.equal(first, layer.lora.base_model.model[0](x))
    assert (first == 0).float().mean().item() == pytest.approx(26 / 256, abs=0.01)
    assert first.float().mean().item() == pytest.approx(1.0, abs=0.01)


def test_what_was_dropped_forward_gets_no_gradient(adapted):
    layer = next(each for each in adapted().modules() if hasattr(each, "lora_A"))
    torch.nn.init.zeros_(layer.get_base_layer().weight)
    fused_lora.fuse(layer.train(), dropout=0.5)
    x = torch.ones(6, layer.get_base_layer().in_features, requires_grad=True)
    torch.manual_seed(5)
    layer(x).sum().backward()
    torch.manual_seed(5)
    keep = fused_lora._keep_bits(fused_lora._draw_bytes(x), 128, 4) != 0
    through = (layer.lora_B["default"].weight.sum(0) @ layer.lora_A["default"].weight) * layer.scaling["default"] * 2
    torch.testing.assert_close(x.grad, keep * through, atol=1e-5, rtol=1e-4)


def test_a_model_may_change_in_place_what_a_layer_returns(adapted):
    layer = next(each for each in adapted().modules() if hasattr(each, "lora_A"))
    fused = copy.deepcopy(layer)
    fused_lora.fuse(fused, dropout=0.0)
    found = []
    for each in (fused, layer):
        x = torch.ones(2, 3, each.get_base_layer().in_features)
        each(x).clamp_(-0.1, 0.1).square().sum().backward()
        found.append(each.lora_B["default"].weight.grad)
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
