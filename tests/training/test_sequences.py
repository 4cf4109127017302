"""Folding and packing change what is computed together, never what is computed."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils import prompts
from utils.likelihood import collate, prefix_tokens, token_nll
from utils.prompts import Encoded
from utils.training.sequences import Step, fold, pack, plan_run, row_tokens


def nll(model, sequences) -> float:
    with torch.no_grad():
        return token_nll(model, collate(sequences)).sum().item()


def logits(model, row) -> torch.Tensor:
    """(T, V), of every position."""
    with torch.no_grad():
        return model(input_ids=row["input_ids"], position_ids=row["position_ids"], use_cache=False).logits[0]


def test_a_conversation_folds_into_one_sequence_with_the_same_logits_and_loss(model, tokenizer, conversation):
    separate = [prompts.encode(record, tokenizer) for record in conversation]
    folded = fold(separate)
    assert len(folded) == 1
    assert len(folded[0].replies) == 3
    assert folded[0].supervised_tokens == sum(record.supervised_tokens for record in separate)
    assert len(folded[0].input_ids) < sum(len(record.input_ids) for record in separate)
    assert nll(model, folded) == pytest.approx(sum(nll(model, [record]) for record in separate), rel=1e-5)
    whole = logits(model, collate(folded))
    for record in separate:
        alone = logits(model, collate([record]))[: record.replies[-1][1]]
        torch.testing.assert_close(whole[: len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_packing_changes_no_logit_and_no_loss_of_a_token(model, tokenizer, conversation):
    separate = [prompts.encode(record, tokenizer) for record in conversation]
    with torch.no_grad():
        packed = token_nll(model, collate(separate))
        alone = torch.cat([token_nll(model, collate([record])) for record in separate])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    each = torch.cat([logits(model, collate([record])) for record in separate])
    torch.testing.assert_close(logits(model, collate(separate)), each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row_multiple", [1, 16])
def test_a_shared_prefix_changes_no_loss_and_no_gradient(model, tokenizer, conversation, row_multiple):
    """Records of one conversation begin alike, and are not folded here."""
    separate = [prompts.encode(record, tokenizer) for record in conversation]
    shared = collate(separate, share_prefix=True, row_multiple=row_multiple)
    apart = collate(separate, row_multiple=row_multiple)
    assert shared["input_ids"].numel() < apart["input_ids"].numel()
    losses, gradients = [], []
    for row in (shared, apart):
        model.zero_grad()
        losses.append(token_nll(model, row))
        losses[-1].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    model.zero_grad()
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_shared_prefix_stands_once_and_ends_before_the_first_reply():
    alike = (5, 6, 7, 8)
    first, second = Encoded((*alike, 9), ((4, 5),)), Encoded((*alike, 10, 11), ((4, 6),))
    assert prefix_tokens([first, second]) == 3  # token 3 predicts the reply's first: each needs its own
    row = collate([first, second], share_prefix=True)
    assert row["input_ids"].tolist() == [[5, 6, 7, 8, 9, 8, 10, 11]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]]
    assert row["scored"].tolist() == [3, 5, 6]
    assert row["targets"].tolist() == [9, 10, 11]
    seen = row["attention_mask"][0, 0]
    assert [position for position in range(8) if seen[7, position]] == [0, 1, 2, 5, 6, 7]
    assert [position for position in range(8) if seen[4, position]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "sequences",
    [
        [Encoded((1, 2, 3), ((1, 3),))],  # alone
        [Encoded((1, 2, 3), ((1, 3),)), Encoded((4, 2, 3), ((1, 3),))],  # nothing alike
        [Encoded((1, 2, 3), ((0, 3),)), Encoded((1, 2, 3), ((0, 3),))],  # nothing before the reply
    ],
)
def test_nothing_to_share_is_a_plain_row(sequences):
    assert collate(sequences, share_prefix=True).keys() == collate(sequences).keys()
    assert collate(sequences, share_prefix=True)["position_ids"].tolist() == collate(sequences)["position_ids"].tolist()


@pytest.mark.parametrize("row_multiple", [1, 8, 64])
def test_filling_a_row_up_changes_no_loss_of_a_token(model, tokenizer, conversation, row_multiple):
    encoded = [prompts.encode(record, tokenizer) for record in conversation]
    plain = collate(encoded)
    filled = collate(encoded, row_multiple=row_multiple, scored_multiple=32)
    assert filled["input_ids"].shape[1] % row_multiple == 0
    assert len(filled["scored"]) % 32 == 0
    torch.testing.assert_close(token_nll(model, filled), token_nll(model, plain), atol=1e-5, rtol=1e-5)


def test_padding_free_rows_restart_positions_and_score_only_replies():
    row = collate([Encoded((5, 6, 7, 8), ((2, 4),)), Encoded((9, 10, 11), ((1, 3),))])
    assert row["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert row["scored"].tolist() == [1, 2, 4, 5]
    assert row["targets"].tolist() == [7, 8, 10, 11]


def test_equal_records_stay_apart_and_branches_share_once():
    stem = Encoded((1, 2, 3), ((1, 3),))
    left, right = Encoded((1, 2, 3, 4, 5), ((4, 5),)), Encoded((1, 2, 3, 6, 7), ((4, 5),))
    assert len(fold([stem, stem])) == 2
    folded = fold([right, stem, left])
    assert sorted(len(sequence.replies) for sequence in folded) == [1, 2]


@st.composite
def encoded_records(draw):
    ids = tuple(draw(st.lists(st.integers(0, 3), min_size=2, max_size=8)))
    start = draw(st.integers(1, len(ids) - 1))
    return Encoded(ids, ((start, draw(st.integers(start + 1, len(ids)))),))


@given(st.lists(encoded_records(), max_size=12))
def test_every_reply_is_supervised_exactly_once(records):
    def supervised(sequences):
        return sorted((s.input_ids[:end], start) for s in sequences for start, end in s.replies)

    assert supervised(fold(records)) == supervised(records)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(8, 64))
def test_a_row_with_a_shared_prefix_keeps_to_the_budget(lengths, budget):
    sequences = [Encoded((0, 0, 0, *[1 + index] * length), ((3, 4),)) for index, length in enumerate(lengths)]
    packed = pack(sequences, budget, share_prefix=True)
    assert sorted(s.input_ids for micro in packed for s in micro) == sorted(s.input_ids for s in sequences)
    for micro in packed:
        row = collate(micro, share_prefix=True)
        assert row_tokens(micro, share_prefix=True) == row["input_ids"].numel()
        assert row["input_ids"].numel() <= budget or len(micro) == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(8, 64))
def test_packing_keeps_every_sequence_whole_and_within_the_budget(lengths, budget):
    sequences = [Encoded(tuple([index] * length), ((0, 1),)) for index, length in enumerate(lengths)]
    packed = pack(sequences, budget)
    assert sorted(s.input_ids for micro in packed for s in micro) == sorted(s.input_ids for s in sequences)
    for micro in packed:
        assert sum(len(s.input_ids) for s in micro) <= budget or len(micro) == 1


def test_steps_hold_the_effective_batch():
    sequences = [Encoded(tuple([index] * 9), ((1, 9),)) for index in range(40)]
    plan = plan_run(sequences, effective_batch=8, epochs=2, max_steps=None, seed=1)
    assert [step.replies for step in plan] == [8] * 10
    assert sorted(s.input_ids for step in plan[:5] for s in step.sequences) == [s.input_ids for s in sequences]


def test_max_steps_overrules_epochs_both_ways():
    sequences = [Encoded((1, 2), ((1, 2),))] * 10
    for max_steps in (3, 50):
        plan = plan_run(sequences, effective_batch=2, epochs=2, max_steps=max_steps, seed=0)
        assert len(plan) == max_steps


def test_a_plan_follows_from_the_seed():
    sequences = [Encoded((index, 2), ((1, 2),)) for index in range(30)]
    random.seed(5)
    kwargs = {"effective_batch": 4, "epochs": 1, "max_steps": None}
    assert plan_run(sequences, seed=7, **kwargs) == plan_run(sequences, seed=7, **kwargs)
    assert plan_run(sequences, seed=7, **kwargs) != plan_run(sequences, seed=8, **kwargs)


def test_step_counts():
    step = Step((Encoded((1, 2, 3), ((1, 3),)), Encoded((1, 2), ((1, 2),))))
    assert (step.replies, step.supervised_tokens, step.tokens) == (2, 3, 5)
