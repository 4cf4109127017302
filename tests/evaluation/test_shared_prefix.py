"""Scoring with a shared key/value cache gives what scoring each pair by itself gives."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, Lfm2Config, MistralConfig

from utils import base_models, prompts
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.evaluation import comparisons, shared_prefix
from utils.evaluation.contexts import held_out_replies
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.shared_prefix import Pair, score_pairs
from utils.records import Source

SETTINGS = EvaluationSettings()


@pytest.fixture
def records(conversation, held_out):
    """Two conversations, one of three turns."""
    first = [msgspec.structs.replace(each, source=Source(conversation="1/1")) for each in conversation]
    return [*first, msgspec.structs.replace(held_out, source=Source(conversation="1/2"))]


@pytest.fixture
def held(records, tokenizer):
    return held_out_replies(records, tokenizer, SETTINGS)


@pytest.fixture(params=["none", "nf4"])
def adapted(request, trained_adapter, tiny_base):
    from peft import PeftModel

    compute = Compute(torch.device("cpu"), torch.float32, request.param)
    base = base_models.load_model(BaseModel(str(tiny_base), str(tiny_base)), compute)
    return PeftModel.from_pretrained(base, trained_adapter).eval()


def separately(model, pairs: list[Pair]) -> list[float]:
    """What transformers computes with masked labels, one pair a row."""
    found = []
    for pair in pairs:
        ids = torch.tensor([pair.context + pair.reply])
        labels = ids.clone()
        labels[0, : len(pair.context)] = -100
        with torch.no_grad():
            found.append(model(input_ids=ids, labels=labels).loss.item() * len(pair.reply))
    return found


def nats(model, pairs: list[Pair]) -> list[float]:
    return [score.nll for score in score_pairs(model, pairs)]


def all_pairs(held) -> list[Pair]:
    return [pair for reply in held for pair in reply.pairs()]


@pytest.mark.parametrize("row_tokens", [1, 20, 512])
def test_equal_to_scoring_each_pair(adapted, held, row_tokens, monkeypatch):
    monkeypatch.setattr(shared_prefix, "ROW_TOKENS", row_tokens)
    pairs = all_pairs(held)
    assert nats(adapted, pairs) == pytest.approx(separately(adapted, pairs), abs=1e-4)


def test_the_base_under_the_disabled_adapter(adapted, held):
    pairs = all_pairs(held)
    tuned = nats(adapted, pairs)
    with adapted.disable_adapter():
        base = nats(adapted, pairs)
        assert base == pytest.approx(separately(adapted, pairs), abs=1e-4)
    assert max(abs(one - other) for one, other in zip(base, tuned, strict=True)) > 1
    assert nats(adapted, pairs) == tuned


def test_a_conversation_runs_through_the_model_once(model, held, monkeypatch):
    rows: list[int] = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: rows.append(inputs["input_ids"].shape[1]) or forward(**inputs)
    )
    own = [Pair(reply.context, other) for reply in held[:3] for other in (reply.reply, *reply.others)]
    score_pairs(model.eval(), own)
    assert rows == [len(held[2].context) - 1, sum(len(pair.reply) for pair in own)]


def test_what_conversations_begin_with_alike_is_computed_once(model, held, monkeypatch):
    rows: list[int] = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: rows.append(inputs["input_ids"].shape[1]) or forward(**inputs)
    )
    pairs = [Pair(reply.context, reply.reply) for reply in (held[0], held[3])]
    score_pairs(model.eval(), pairs)
    first, second = sorted(pair.context[:-1] for pair in pairs)
    alike = next(place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    assert alike > 10  # the system prompt
    assert (rows[0], rows[2]) == (len(first), len(second) - alike)


def test_a_branch_sees_neither_its_neighbours_nor_later_turns(model, held):
    pair = Pair(held[0].context, held[0].reply)
    (alone,) = nats(model.eval(), [pair])
    assert nats(model, [pair, *all_pairs(held)])[0] == pytest.approx(alone, abs=1e-4)


SIZES = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
NO_BRANCHES = {
    "a window shorter than a pair": MistralConfig(**SIZES, sliding_window=16),
    "eager attention": Gemma2Config(**SIZES, head_dim=8),
    "a convolution": Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_ff_dim=48),
    "no positions": BloomConfig(vocab_size=600, hidden_size=32, n_layer=2, n_head=4),
}


@pytest.mark.parametrize("config", NO_BRANCHES)
def test_a_model_that_can_not_branch_scores_each_pair_by_itself(config, held):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(NO_BRANCHES[config]).eval()
    assert nats(model, all_pairs(held)) == pytest.approx(separately(model, all_pairs(held)), abs=1e-3)


def test_equal_pairs_are_computed_once(model, held):
    counted: list[int] = []
    pair = Pair(held[0].context, held[0].reply)
    first, second = score_pairs(model.eval(), [pair, pair], counted.append)
    assert first == second
    assert counted == [1]


def test_what_a_reply_is_scored_with(held, records, tokenizer):
    for reply, record in zip(held, records, strict=True):
        whole = prompts.encode(record, tokenizer).input_ids
        assert reply.context + reply.reply == whole[: len(reply.context + reply.reply)]
        assert reply.reply[-1] == tokenizer.eos_token_id
        assert reply.characters == len(record.output)
        assert "You are Rohan." in tokenizer.decode(reply.empty_context)
        assert record.instruction not in tokenizer.decode(reply.empty_context)
    (wrong,) = held[3].wrong_contexts
    assert wrong in {each.context for each in held[:3]}
    assert all(reply.wrong_contexts == (held[3].context,) for reply in held[:3])
    assert held[0].others == (held[3].reply,)


def test_a_measured_reply_by_hand(model, held):
    first = comparisons.measure(model.eval(), held, "")[0]
    contexts = (held[0].context, *held[0].wrong_contexts, held[0].empty_context)
    own, *wrong, empty = separately(model, [Pair(context, held[0].reply) for context in contexts])
    other, other_empty = separately(
        model, [Pair(context, held[0].others[0]) for context in (held[0].context, held[0].empty_context)]
    )
    assert (first.nll, first.empty_nll) == pytest.approx((own, empty), abs=1e-4)
    assert first.wrong_nlls == pytest.approx(wrong, abs=1e-4)
    assert first.candidates == 2
    assert first.rank == 1 + (other / len(held[0].others[0]) <= own / len(held[0].reply))
    assert first.pmi_rank == 1 + (other_empty - other >= empty - own)


def test_an_untrained_model_is_about_as_good_as_guessing(model, held):
    (nll,) = nats(model.eval(), [Pair(held[3].context, held[3].reply)])
    assert nll / len(held[3].reply) == pytest.approx(math.log(model.config.vocab_size), abs=0.5)


def test_a_reply_that_does_not_fit_is_left_out(records, tokenizer):
    long = msgspec.structs.replace(records[0], output="no " * 800)
    assert len(held_out_replies([*records, long], tokenizer, SETTINGS)) == len(records)
    with pytest.raises(UserError, match="raise --max-length-tokens"):
        held_out_replies([long], tokenizer, SETTINGS)
