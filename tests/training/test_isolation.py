"""No sequence of a row may see another one: which models keep them apart is found out, not believed."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BigBirdPegasusConfig,
    CTRLConfig,
    FalconConfig,
    Gemma2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    TrOCRConfig,
    XLNetConfig,
)

from utils import prompts
from utils.base_models import Compute
from utils.console import UserError
from utils.likelihood import collate, token_nll
from utils.prompts import Encoded
from utils.training import packed_attention, preflight
from utils.training.data import EncodedData
from utils.training.isolation import keeps_sequences_apart, looks_ahead
from utils.training.sequences import pack
from utils.training.settings import TrainingSettings

CPU = torch.device("cpu")
IDS = tuple(range(5, 25))
SIZES = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
PLAIN = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODER = {
    "vocab_size": 600, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48,
}  # fmt: skip
APART = {
    "llama": LlamaConfig(**SIZES),
    "with a sliding window": MistralConfig(**SIZES, sliding_window=4),
    "without sdpa": Gemma2Config(**SIZES, head_dim=8),
    "it scales its embeddings in place": CTRLConfig(vocab_size=600, n_embd=32, dff=48, n_layer=2, n_head=4),
}
TOGETHER = {
    "its mask knows no positions": FalconConfig(**PLAIN),
    "a convolution": Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_ff_dim=48),
    "it takes no positions": BartConfig(**DECODER, is_decoder=True),
}
BERT = {**PLAIN, "intermediate_size": 48}


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


@pytest.mark.parametrize(
    ("config", "ahead"),
    [
        (BertConfig(**BERT), True),
        (BertConfig(**BERT, is_decoder=True), False),
        (XLNetConfig(vocab_size=600, d_model=32, n_layer=2, n_head=4, d_inner=48), True),
        (APART["llama"], False),
        (TOGETHER["a convolution"], False),
        (TOGETHER["it takes no positions"], False),
    ],
)
def test_a_model_whose_tokens_see_later_ones_is_found_and_refused(config, ahead, tokenizer, conversation, tmp_path):
    model = build(config)
    compute = Compute(CPU, torch.float32, "none")
    assert looks_ahead(model, IDS, compute) is ahead
    if ahead:
        encoded = [prompts.encode(record, tokenizer) for record in conversation]
        run = TrainingSettings(output_dir=tmp_path, micro_batch_tokens=512)
        with pytest.raises(UserError, match="a token sees those that follow"):
            preflight.measure(model, EncodedData(encoded, [], len(encoded), 0, 0, 0), run, compute, None)


@pytest.mark.parametrize("positions", [64, 100, 4096])
def test_records_longer_than_the_models_positions_are_refused(positions, tokenizer, conversation, tmp_path):
    """A table of positions has so many rows, and none for what fills a row up to a multiple of 64 either."""
    model = build(BartConfig(**DECODER, is_decoder=True, max_position_embeddings=positions))
    encoded = [prompts.encode(conversation[-1], tokenizer)]
    tokens = len(encoded[0].input_ids)
    assert 64 < tokens < 100
    run = TrainingSettings(output_dir=tmp_path, micro_batch_tokens=512)
    data, compute = EncodedData(encoded, [], 1, 0, 0, 0), Compute(CPU, torch.float32, "none")
    if positions == 4096:
        preflight.measure(model, data, run, compute, None)
        return
    refusal = f"records have up to {tokens} tokens, .* positions for 64; add --max-length-tokens 64"
    with pytest.raises(UserError, match=refusal):
        preflight.measure(model, data, run, compute, None)


def test_a_head_that_runs_on_all_positions_scores_the_right_ones():
    model = build(TrOCRConfig(**DECODER, is_decoder=True)).eval()
    row = collate([Encoded(IDS, ((3, 6), (9, 12)))])
    with torch.no_grad():
        logits = model(input_ids=row["input_ids"]).logits[0].log_softmax(-1)
        wanted = -logits[row["scored"]].gather(1, row["targets"][:, None])[:, 0]
        torch.testing.assert_close(token_nll(model, row), wanted)


def test_attention_that_is_not_sdpa_stays_what_it_is():
    model = AutoModelForCausalLM.from_config(
        BigBirdPegasusConfig(**DECODER, is_decoder=True), attn_implementation="eager"
    )
    packed_attention.use(model)
    assert model.config._attn_implementation == "eager"
