"""The fused norm computes what transformers' does, and keeps away from what only shares its name."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from utils.training import fused_norm


def frozen(kind: type, size: int = 48, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    layer = kind(size)
    layer.weight.data = torch.rand(size) + 0.5
    return torch.nn.Sequential(layer.to(dtype).requires_grad_(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_to_the_bit_and_the_same_gradient(dtype):
    plain = frozen(LlamaRMSNorm, dtype=dtype)
    fused = copy.deepcopy(plain)
    fused_norm.fuse(fused)
    assert isinstance(fused[0].forward, fused_norm._Forward)
    outputs, gradients = [], []
    for model in (plain, fused):
        torch.manual_seed(1)
        x = torch.randn(1, 7, 48, dtype=dtype).requires_grad_()
        outputs.append(model(x))
        (outputs[-1].float() * torch.randn(1, 7, 48)).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*outputs)
    exact = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-2, "rtol": 2e-2}
    torch.testing.assert_close(*gradients, **exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backward_pass_leaves_its_input_alone(dtype):
    """Who made the input may have kept it as well."""
    model = frozen(LlamaRMSNorm, dtype=dtype)
    fused_norm.fuse(model)
    leaf = torch.randn(1, 3, 48, dtype=dtype, requires_grad=True)
    x = leaf.exp()  # whose own backward pass asks for its result
    before = x.detach().clone()
    model(x).sum().backward()
    assert torch.equal(x, before)


def test_the_gradient_is_that_of_finite_differences():
    weight = torch.rand(6, dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    # computed in float32, so the differences are coarse
    assert torch.autograd.gradcheck(
        lambda x: fused_norm._RmsNorm.apply(x, weight, 1e-6), (x,), eps=1e-2, atol=1e-2, rtol=1e-2
    )


def test_another_formula_and_a_trained_weight_stay_as_they_are():
    other = frozen(GemmaRMSNorm)
    trained = frozen(LlamaRMSNorm).requires_grad_(True)
    for model in (other, trained):
        fused_norm.fuse(model)
        assert not isinstance(model[0].forward, fused_norm._Forward)


def test_a_fused_model_can_be_copied():
    model = frozen(LlamaRMSNorm)
    fused_norm.fuse(model)
    twin = copy.deepcopy(model)
    twin[0].weight.data.mul_(2)
    x = torch.randn(1, 3, 48)
    assert torch.equal(twin(x), 2 * model(x))
