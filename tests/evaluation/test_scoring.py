"""Scores are token-weighted likelihoods, and replies are drawn from the prompt alone."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest
import torch

from utils import adapters, base_models, prompts
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.evaluation import generation
from utils.evaluation.scoring import ReplyScore, mean_nll, perplexity, score
from utils.evaluation.settings import EvaluationSettings

GREEDY = EvaluationSettings(temperature=0.0, max_new_tokens=32)
DRAWN = EvaluationSettings(temperature=1.0, top_p=1.0, max_new_tokens=16)


@pytest.fixture(scope="module")
def tuned(trained_adapter, tiny_base):
    """The trained adapter on its base."""
    compute = Compute(torch.device("cpu"), torch.float32, "none")
    base = BaseModel(str(tiny_base), str(tiny_base))
    return adapters.load(adapters.verify(trained_adapter), base, compute)[0]


@pytest.fixture
def encoded(tokenizer, conversation, held_out):
    return [prompts.encode(record, tokenizer) for record in [*conversation, held_out]]


def test_every_token_weighs_the_same_whatever_the_length_of_its_reply():
    scores = [ReplyScore(nll=2.0, tokens=2), ReplyScore(nll=12.0, tokens=4)]
    assert mean_nll(scores) == pytest.approx(14 / 6)
    assert mean_nll(scores) == pytest.approx(2.3333, abs=1e-4)
    assert perplexity(scores) == pytest.approx(10.312, abs=1e-3)


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    assert perplexity([ReplyScore(nll=3 * math.log(50), tokens=3)]) == pytest.approx(50)


def test_scores_are_what_transformers_computes_with_masked_labels(tuned, encoded):
    for record, found in zip(encoded, score(tuned, encoded, ""), strict=True):
        ((start, end),) = record.replies
        ids = torch.tensor([record.input_ids])
        labels = torch.full_like(ids, -100)
        labels[0, start:end] = ids[0, start:end]
        with torch.no_grad():
            loss = tuned(input_ids=ids, labels=labels).loss.item()
        assert found.tokens == end - start
        assert found.nll == pytest.approx(loss * found.tokens, rel=1e-4)


def test_the_base_is_scored_under_the_disabled_adapter(tuned, model, encoded):
    with tuned.disable_adapter():
        base = [each.nll for each in score(tuned, encoded, "")]
    assert base == pytest.approx([each.nll for each in score(model.eval(), encoded, "")], rel=1e-5)
    assert score(tuned, encoded, "")[-1].nll < base[-1] - 6  # a nat a token: all that so small a head can say


def test_an_untrained_model_is_about_as_good_as_guessing(model, encoded):
    assert mean_nll(score(model.eval(), encoded, "")) == pytest.approx(math.log(model.config.vocab_size), abs=0.5)


def test_nothing_to_score_is_the_length_limits_fault(tuned):
    with pytest.raises(UserError) as error:
        score(tuned, [], "")
    assert str(error.value) == "no held-out record fits into the length limit; raise --max-length-tokens"


def test_a_reply_ends_at_the_end_of_turn_token_and_does_not_show_it(tuned, tokenizer, held_out):
    reply = generation.answer(tuned, tokenizer, held_out, GREEDY)
    assert (reply.text, reply.ended) == (held_out.output, True)
    assert reply.tokens == prompts.encode(held_out, tokenizer).supervised_tokens
    assert reply.seconds > 0


def test_a_reply_cut_at_the_length_limit_has_not_ended(tuned, tokenizer, held_out):
    reply = generation.answer(tuned, tokenizer, held_out, dataclasses.replace(GREEDY, max_new_tokens=2))
    assert (reply.tokens, reply.ended) == (2, False)
    assert reply.text
    assert held_out.output.startswith(reply.text)


def test_a_drawn_reply_follows_from_its_seed(tuned, tokenizer, held_out):
    with tuned.disable_adapter():
        first, again = (generation.answer(tuned, tokenizer, held_out, DRAWN) for _ in range(2))
        other = generation.answer(tuned, tokenizer, held_out, dataclasses.replace(DRAWN, seed=7))
    assert first.text == again.text
    assert first.text != other.text


def test_the_true_reply_is_not_looked_at(tuned, tokenizer, held_out):
    other = msgspec.structs.replace(held_out, output="something else entirely")
    assert generation.answer(tuned, tokenizer, other, GREEDY).text == held_out.output


@pytest.fixture
def asked(tuned, monkeypatch) -> list[list[int]]:
    """The prompts that the model is asked to go on from, as they come."""
    seen: list[list[int]] = []
    generate = tuned.generate

    def listen(**kwargs):
        seen.append(kwargs["input_ids"][0].tolist())
        return generate(**kwargs)

    monkeypatch.setattr(tuned, "generate", listen)
    return seen


def test_the_model_is_asked_with_the_prompt_of_the_training(tuned, tokenizer, conversation, asked):
    for record in conversation:
        generation.answer(tuned, tokenizer, record, GREEDY)
        encoded = prompts.encode(record, tokenizer)
        assert asked[-1] == list(encoded.input_ids[: encoded.replies[0][0]])


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_its_system_prompt(tuned, tokenizer, conversation, asked):
    long = conversation[-1]
    shorter = msgspec.structs.replace(long, history=long.history[1:])
    whole = prompts.encode_prompt(prompts.prompt_messages(shorter), tokenizer)
    generation.answer(tuned, tokenizer, long, dataclasses.replace(GREEDY, max_length_tokens=len(whole) + 1))
    assert asked == [whole]


def test_the_model_is_found_as_it_was_left(tuned, tokenizer, held_out, encoded):
    before = base_models.tokenizer_sha256(tokenizer), score(tuned, encoded, "")
    generation.answer(tuned, tokenizer, held_out, DRAWN)
    assert (base_models.tokenizer_sha256(tokenizer), score(tuned, encoded, "")) == before
    assert not tuned.training
