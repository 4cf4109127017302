"""Each check fails for what it is there for, and for nothing else."""

from __future__ import annotations

import functools
import types

import pytest
import torch

from utils import prompts
from utils.evaluation import answer_checks, generation
from utils.evaluation.answer_checks import BatchSizes, check, is_loop, repetition
from utils.evaluation.results import Reply
from utils.evaluation.settings import EvaluationSettings

FINE = Reply("okay but hear me out: soup is a drink", tokens=9, ended=True, seconds=2.0, first_token_seconds=0.5)
CUT = Reply("okay but hear me out: soup is a drink, and so is the broth of", tokens=64, ended=False, seconds=1.0)
SAME = BatchSizes((FINE, FINE), (), ())
SETTINGS = EvaluationSettings(max_new_tokens=16)


def failed(replies, tokenizer, batch_sizes=SAME):
    return [each.name for each in check(replies, batch_sizes, tokenizer) if not each.passed]


@pytest.mark.parametrize(
    ("replies", "wrong"),
    [
        ([FINE, FINE], []),
        ([FINE, CUT], []),
        ([FINE, Reply("", 1, True, 0.1)], ["no reply is empty"]),
        ([CUT, CUT], ["replies come to an end"]),
        ([FINE, Reply("no soup. " * 12, 64, False, 1.0)], ["replies don't repeat themselves endlessly"]),
        ([FINE, Reply("ha" * 60, 64, False, 1.0)], ["replies don't repeat themselves endlessly"]),
        ([*[FINE] * 19, Reply("ha" * 60, 64, False, 1.0)], []),  # one in twenty
        ([FINE, Reply("ha" * 60, 30, True, 1.0)], []),  # it came to an end
        ([FINE, Reply("sure<|im_end|>", 4, True, 0.1)], ["no control tokens in a reply"]),
        ([FINE, Reply("<|user|>\nand then?", 9, True, 0.1)], ["no control tokens in a reply"]),
        ([FINE, Reply("a < b | c > d, <| that", 9, True, 0.1)], []),
    ],
)
def test_what_fails(replies, wrong, tokenizer):
    assert failed(replies, tokenizer) == wrong


def test_loops_that_the_base_has_as_well_are_no_fault_of_the_training(tokenizer):
    loop = Reply("ha" * 60, 64, False, 1.0)
    name = "replies don't repeat themselves endlessly"
    for base, passed in (([loop, loop], True), ([loop, FINE], True), ([FINE, CUT], False)):
        found = {each.name: each for each in check([FINE, loop], SAME, tokenizer, base)}[name]
        assert found.passed == passed
        assert found.detail == f"1 of 2, base {base.count(loop)}"


def test_a_reply_that_depends_on_its_batch_fails_and_a_near_tie_does_not(tokenizer):
    name = "a reply is the same alone and in a batch"
    assert failed([FINE], tokenizer, BatchSizes((FINE, FINE), (1,), ())) == [name]
    tied = {each.name: each for each in check([FINE], BatchSizes((FINE, FINE), (), (0,)), tokenizer)}[name]
    assert (tied.passed, tied.detail) == (True, "1 of 2 parted at a near-tie")


def test_speed_is_that_of_one_reply_at_a_time():
    assert SAME.tokens_per_second == pytest.approx(4.5)
    assert SAME.first_token_seconds == pytest.approx(0.5)


def test_repetition_by_hand():
    assert repetition("") == repetition("abc") == repetition("abcdefgh") == 0
    assert repetition("abababab") == pytest.approx(1 - 2 / 5)  # abab, baba, abab, baba, abab
    assert not is_loop(Reply("you could try: sudo apt-get install foo; sudo apt-get remove bar, then", 20, False, 1.0))


def test_a_sound_model_answers_alike_in_any_batch(model, tokenizer, conversation, held_out):
    found = answer_checks.same_at_any_batch_size(model.eval(), tokenizer, [*conversation, held_out], SETTINGS)
    assert (found.differing, found.near_ties) == ((), ())
    assert len({reply.text for reply in found.alone}) == 4


def test_padding_that_the_mask_does_not_hide_is_found(model, tokenizer, conversation, held_out, monkeypatch):
    forward = type(model).forward

    @functools.wraps(forward)
    def careless(self, *args, **kwargs):
        return forward(self, *args, **{**kwargs, "attention_mask": torch.ones_like(kwargs["attention_mask"])})

    monkeypatch.setattr(type(model), "forward", careless)
    found = answer_checks.same_at_any_batch_size(model.eval(), tokenizer, [*conversation, held_out], SETTINGS)
    assert found.differing


@pytest.mark.parametrize(("margins", "tied"), [((2e-4, 3e-4), True), ((2e-4, 0.5), False)])
def test_a_near_tie_is_one_in_both_runs(margins, tied, tokenizer, conversation, monkeypatch):
    end = tokenizer.eos_token_id
    runs = iter(
        [
            [generation.Completion([40, 41, end], [1.0, margins[0], 1.0])],
            [generation.Completion([40, 42, end], [1.0, margins[1], 1.0])],
        ]
    )
    monkeypatch.setattr(answer_checks, "complete", lambda *_: next(runs))
    model = types.SimpleNamespace(dtype=torch.float32)
    found = answer_checks.same_at_any_batch_size(model, tokenizer, conversation[:1], SETTINGS)
    assert (found.near_ties, found.differing) == (((0,), ()) if tied else ((), (0,)))


def test_coarser_numbers_round_further():
    thresholds = [answer_checks.rounding(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)]
    assert thresholds == pytest.approx([0.001, 0.094, 0.265], rel=0.05)


def test_the_pattern_of_control_tokens_is_that_of_the_prompts(tokenizer):
    pattern = prompts.control_pattern(tokenizer)
    assert pattern.findall("<|im_start|>a<|im_end|><|endoftext|><|user|>") == [
        "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    ]  # fmt: skip
