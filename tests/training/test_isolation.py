"""No sequence of a row may see another one: which models keep them apart is found out, not believed."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    FalconConfig,
    Gemma2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
)

from utils import prompts
from utils.base_models import Compute
from utils.likelihood import collate, token_nll
from utils.training import packed_attention, preflight
from utils.training.data import EncodedData
from utils.training.isolation import keeps_sequences_apart
from utils.training.sequences import pack
from utils.training.settings import TrainingSettings

CPU = torch.device("cpu")
IDS = tuple(range(5, 25))
SIZES = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
PLAIN = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
APART = {
    "llama": LlamaConfig(**SIZES),
    "with a sliding window": MistralConfig(**SIZES, sliding_window=4),
    "without sdpa": Gemma2Config(**SIZES, head_dim=8),
}
TOGETHER = {
    "its mask knows no positions": FalconConfig(**PLAIN),
    "a convolution": Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_ff_dim=48),
    "it takes no positions": BartConfig(
        vocab_size=600, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, is_decoder=True
    ),
}


def build(config, dtype=torch.float32):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    packed_attention.use(model)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [*APART, *TOGETHER])
def test_who_keeps_the_sequences_of_a_row_apart(config, dtype):
    model = build((APART | TOGETHER)[config], dtype)
    before = copy.deepcopy(model.state_dict())
    assert keeps_sequences_apart(model, IDS, Compute(CPU, dtype, "none")) is (config in APART)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_leak_into_a_row_with_a_shared_prefix_alone_is_found(monkeypatch):
    model = build(APART["llama"])
    attend = packed_attention._sequences
    whole_row = lambda positions: [(0, slice(0, len(positions)))] if 0 not in positions[1:] else attend(positions)  # noqa: E731
    monkeypatch.setattr(packed_attention, "_sequences", whole_row)
    assert not keeps_sequences_apart(model, IDS, Compute(CPU, torch.float32, "none"))


@pytest.mark.parametrize("config", [*APART, *TOGETHER])
def test_what_is_measured_is_packed_so_that_no_loss_changes(config, tokenizer, conversation, tmp_path, capsys):
    model = build((APART | TOGETHER)[config]).eval()
    encoded = [prompts.encode(record, tokenizer) for record in conversation]
    run = TrainingSettings(output_dir=tmp_path, max_length_tokens=128, batch_size=4, micro_batch_tokens=512)
    data = EncodedData(encoded, [], len(encoded), 0, 0, 0)
    compute = Compute(CPU, torch.float32, "none")
    fit = preflight.measure(model, data, run, compute, None)
    packed = pack(encoded, fit.micro_batch_tokens)
    assert len(packed) == (1 if config in APART else len(encoded))
    with torch.no_grad():
        losses = [token_nll(model, collate(row)).sum().item() for row in packed]
        alone = [token_nll(model, collate([each])).sum().item() for each in encoded]
    assert sum(losses) == pytest.approx(sum(alone), rel=1e-5)
    preflight.show(fit, data, compute)
    told = capsys.readouterr()
    assert ("micro-batches of one sequence" in told.out) is (config in TOGETHER)
    assert ("each gets one to itself" in " ".join(told.err.split())) is (config in TOGETHER)
