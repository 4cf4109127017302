"""What preflight chooses, from rates and failures that are given to it."""

from __future__ import annotations

import pytest
import torch

from utils import prompts
from utils.base_models import Compute
from utils.console import UserError
from utils.training import preflight
from utils.training.data import EncodedData
from utils.training.settings import TrainingSettings

COMPUTE = Compute(torch.device("cpu"), torch.float32, "none")


@pytest.fixture
def measure(model, tokenizer, conversation, monkeypatch, tmp_path):
    """Runs preflight over a machine that reaches so many tokens a second at each size, and None without memory."""
    encoded = [prompts.encode(record, tokenizer) for record in conversation] * 20
    data = EncodedData(encoded, [], len(encoded), 0, 0, 0)
    monkeypatch.setattr(preflight, "_has_room", lambda *_: True)

    def measured(plain: dict[int, float], recomputed: dict[int, float] | None = None, **settings):
        tried = []

        def rate(_model, _sequences, size, _compute):
            is_recomputing = model.is_gradient_checkpointing
            tried.append((size, is_recomputing))
            return ((recomputed or {}) if is_recomputing else plain).get(size)

        monkeypatch.setattr(preflight, "_try", rate)
        run = TrainingSettings(output_dir=tmp_path, max_length_tokens=128, batch_size=8, **settings)
        try:
            return preflight.measure(model, data, run, COMPUTE, None), tried
        finally:
            model.gradient_checkpointing_disable()

    return measured


def test_the_size_with_the_most_tokens_a_second_is_taken(measure):
    fit, tried = measure({128: 1000.0, 256: 1500.0, 512: 1400.0, 1024: 9000.0})
    assert (fit.micro_batch_tokens, fit.tokens_per_s, fit.gradient_checkpointing) == (256, 1500.0, False)
    assert tried == [(128, False), (256, False), (512, False)]


def test_a_larger_size_without_memory_leaves_the_one_before(measure):
    fit, _ = measure({128: 1000.0, 256: 1500.0})
    assert fit.micro_batch_tokens == 256


def test_a_size_that_takes_long_to_try_is_not_tried(measure):
    fit, tried = measure({128: 10.0, 256: 20.0})
    assert (fit.micro_batch_tokens, tried) == (128, [(128, False)])


def test_activations_are_recomputed_where_the_smallest_size_does_not_fit(measure):
    fit, tried = measure({}, {128: 700.0})
    assert (fit.micro_batch_tokens, fit.gradient_checkpointing) == (128, True)
    assert tried[:2] == [(128, False), (128, True)]


@pytest.mark.parametrize("asked", [None, False])
def test_what_does_not_fit_even_so_is_refused(measure, asked):
    with pytest.raises(UserError, match="micro-batch of 128 tokens does not fit into the memory of cpu"):
        measure({}, {128: 700.0} if asked is False else {}, gradient_checkpointing=asked)


def test_a_size_that_is_set_is_the_only_one_tried(measure):
    fit, tried = measure({384: 5.0, 128: 1000.0}, micro_batch_tokens=384)
    assert (fit.micro_batch_tokens, tried) == (384, [(384, False)])
