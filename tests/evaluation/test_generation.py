"""Replies: from the prompt alone, the same in any batch and any order, streamed or not."""

from __future__ import annotations

import dataclasses
import functools

import msgspec
import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM

from utils import base_models, prompts
from utils.base_models import BaseModel, Compute
from utils.evaluation import cached, generation
from utils.evaluation.settings import EvaluationSettings
from utils.records import Record
from utils.saved_models import adapters

GREEDY = EvaluationSettings(temperature=0.0, max_new_tokens=24)
DRAWN = EvaluationSettings(temperature=1.0, top_p=0.9, max_new_tokens=16)


@pytest.fixture(scope="module")
def tuned(trained_adapter, tiny_base):
    compute = Compute(torch.device("cpu"), torch.float32, "none")
    return adapters.load(adapters.verify(trained_adapter), BaseModel(str(tiny_base), str(tiny_base)), compute)[0]


@pytest.fixture
def asked(conversation, held_out):
    """Prompts of very different lengths."""
    long = Record(instruction="so " * 60 + "soup?", output="no", history=(("hello there", "hi"),) * 3)
    return [*conversation, long, held_out, Record(instruction="hm", output="yes")]


def test_a_greedy_reply_is_what_transformers_generates(tuned, tokenizer, asked):
    for record, reply in zip(asked, generation.answer_all(tuned, tokenizer, asked, GREEDY), strict=True):
        prompt = prompts.encode_prompt(prompts.prompt_messages(record), tokenizer)
        ids = torch.tensor([prompt])
        output = tuned.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
            eos_token_id=sorted(prompts.end_of_turn_ids(tokenizer)), pad_token_id=tokenizer.pad_token_id,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert reply.tokens == len(output)
        assert reply.ended == (output[-1] in prompts.end_of_turn_ids(tokenizer))
        assert reply.text == tokenizer.decode(output[: -1 if reply.ended else None]).strip()


@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_neither_batch_nor_order_changes_a_reply(tuned, tokenizer, asked, settings):
    def texts(records, batch_size):
        chosen = dataclasses.replace(settings, batch_size=batch_size)
        return [each.text for each in generation.answer_all(tuned, tokenizer, records, chosen)]

    with tuned.disable_adapter():  # random weights: drawn replies are all different
        alone = texts(asked, 1)
        assert texts(asked, 8) == alone
        assert texts(asked, 3) == alone
        assert texts(asked[::-1], 4)[::-1] == alone
    assert len(set(alone)) == len(asked)


def test_long_prompts_share_a_batch_with_fewer_others(tuned, tokenizer, asked, monkeypatch):
    sizes: list[tuple[int, int]] = []
    complete = generation.complete

    def listen(model, prompt_ids, *more):
        sizes.append((len(prompt_ids), max(map(len, prompt_ids))))
        return complete(model, prompt_ids, *more)

    monkeypatch.setattr(generation, "complete", listen)
    monkeypatch.setattr(generation, "BATCH_TOKENS", 200)
    generation.answer_all(tuned, tokenizer, asked, GREEDY)
    assert sum(rows for rows, _ in sizes) == len(asked)
    assert all(rows * longest <= 200 for rows, longest in sizes if rows > 1)
    assert len(sizes) > 1 and max(rows for rows, _ in sizes) > 1


def test_positions_count_from_a_prompts_own_first_token(model, tokenizer, asked, monkeypatch):
    forward = type(model).forward

    @functools.wraps(forward)
    def listen(self, *args, **kwargs):
        for mask, positions in zip(kwargs["attention_mask"], kwargs["position_ids"], strict=True):
            seen = int(mask.sum())
            own = positions[mask[-len(positions) :] == 1].tolist()
            assert own == list(range(seen - len(own), seen))
        calls.append(len(kwargs["input_ids"]))
        return forward(self, *args, **kwargs)

    calls: list[int] = []
    assert cached.goes_on(model.eval(), [1, 2, 3])
    monkeypatch.setattr(type(model), "forward", listen)
    generation.answer_all(model, tokenizer, asked, GREEDY)
    assert calls[0] == len(asked)


def test_prompts_that_have_ended_leave_the_batch(model, tokenizer, asked, monkeypatch):
    """Every third token ends a reply here."""
    forward = type(model).forward

    @functools.wraps(forward)
    def listen(self, *args, **kwargs):
        sizes.append(len(kwargs["input_ids"]))
        return forward(self, *args, **kwargs)

    prompt_ids, ends = generation.encode_prompts(asked, tokenizer, DRAWN), set(range(0, len(tokenizer), 3))
    alone = [generation.complete(model.eval(), [ids], ends, DRAWN)[0].tokens for ids in prompt_ids]
    sizes: list[int] = []
    monkeypatch.setattr(type(model), "forward", listen)
    together = generation.complete(model, prompt_ids, ends, DRAWN)
    assert [each.tokens for each in together] == alone
    assert sum(sizes) == sum(map(len, alone))
    assert sizes[0] == len(asked) > sizes[-1]


def test_a_prompt_leaves_the_batch_of_a_model_with_convolutions_as_well():
    sizes = {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "block_ff_dim": 48}
    torch.manual_seed(0)
    model = Lfm2ForCausalLM(Lfm2Config(**sizes, **heads, layer_types=["conv", "full_attention"])).eval()
    prompt_ids = [list(range(start, 40)) for start in range(10, 18)]
    ends = set(range(0, 600, 3))
    together = [each.tokens for each in generation.complete(model, prompt_ids, ends, DRAWN)]
    assert len(set(map(len, together))) > 1
    assert together == [generation.complete(model, [ids], ends, DRAWN)[0].tokens for ids in prompt_ids]


def test_a_reply_ends_at_the_end_of_turn_token_and_does_not_show_it(tuned, tokenizer, held_out):
    (reply,) = generation.answer_all(tuned, tokenizer, [held_out], GREEDY)
    assert (reply.text, reply.ended) == (held_out.output, True)
    assert reply.tokens == prompts.encode(held_out, tokenizer).supervised_tokens
    assert 0 < reply.first_token_seconds <= reply.seconds


def test_a_reply_cut_at_the_length_limit_has_not_ended(tuned, tokenizer, held_out):
    (reply,) = generation.answer_all(tuned, tokenizer, [held_out], dataclasses.replace(GREEDY, max_new_tokens=2))
    assert (reply.tokens, reply.ended) == (2, False)
    assert reply.text
    assert held_out.output.startswith(reply.text)


def test_a_drawn_reply_follows_from_its_seed(tuned, tokenizer, held_out):
    with tuned.disable_adapter():
        first, again = (generation.answer_all(tuned, tokenizer, [held_out], DRAWN)[0].text for _ in range(2))
        (other,) = generation.answer_all(tuned, tokenizer, [held_out], dataclasses.replace(DRAWN, seed=7))
    assert first == again
    assert first != other.text


def test_the_true_reply_is_not_looked_at(tuned, tokenizer, held_out):
    other = msgspec.structs.replace(held_out, output="something else entirely")
    assert generation.answer_all(tuned, tokenizer, [other], GREEDY)[0].text == held_out.output


@pytest.fixture
def prompted(monkeypatch) -> list[list[int]]:
    """The prompts that a model is asked to go on from, as they come."""
    seen: list[list[int]] = []
    decode = generation.decode

    def listen(model, prompt_ids, *more):
        seen.extend(prompt_ids)
        return decode(model, prompt_ids, *more)

    monkeypatch.setattr(generation, "decode", listen)
    return seen


def test_the_model_is_asked_with_the_prompt_of_the_training(tuned, tokenizer, conversation, prompted):
    generation.answer_all(tuned, tokenizer, conversation, GREEDY)
    for record, prompt in zip(conversation, prompted, strict=True):
        encoded = prompts.encode(record, tokenizer)
        assert prompt == list(encoded.input_ids[: encoded.replies[0][0]])


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_its_system_prompt(
    tuned, tokenizer, conversation, prompted
):
    long = conversation[-1]
    shorter = msgspec.structs.replace(long, history=long.history[1:])
    whole = prompts.encode_prompt(prompts.prompt_messages(shorter), tokenizer)
    generation.answer_all(tuned, tokenizer, [long], dataclasses.replace(GREEDY, max_length_tokens=len(whole) + 1))
    assert prompted == [whole]


def test_a_stream_adds_up_to_the_reply(tuned, tokenizer, asked, held_out):
    pieces = list(generation.stream(tuned, tokenizer, held_out, GREEDY))
    assert "".join(pieces) == held_out.output
    assert len(pieces) > 2
    with tuned.disable_adapter():  # bytes at random: one that begins no character is told only when the next one comes
        for record in asked:
            text = generation.answer_all(tuned, tokenizer, [record], DRAWN)[0].text
            streamed = "".join(generation.stream(tuned, tokenizer, record, DRAWN))
            assert text.startswith(streamed)
            assert len(text) - len(streamed) < 4


def test_a_stream_waits_for_whole_characters(tokenizer, monkeypatch):
    """A character of several bytes is several tokens of a byte-level vocabulary."""
    text = "na und? 🍜 ü"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(*_):
        return ([generation.Drawn(0, token, 0.0)] for token in [*ids, tokenizer.eos_token_id])

    monkeypatch.setattr(generation, "decode", decode)
    pieces = list(generation.stream(None, tokenizer, Record(instruction="soup?", output="no"), GREEDY))
    assert "".join(pieces) == text
    assert len(ids) > len(pieces) > 3
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_may_be_left_at_any_token(tuned, tokenizer, held_out):
    pieces = generation.stream(tuned, tokenizer, held_out, GREEDY)
    next(pieces)
    assert not torch.is_inference_mode_enabled()
    pieces.close()
    assert generation.answer_all(tuned, tokenizer, [held_out], GREEDY)[0].text == held_out.output


def test_chance_draws_as_often_as_the_likelihood_says():
    """Of four tokens with 0.5, 0.3, 0.15 and 0.05 the first two have 0.75 of the mass."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    settings = EvaluationSettings(temperature=1.0, top_p=0.75)
    generator = torch.Generator().manual_seed(0)
    tokens = [generation._choose(logits, [generator], settings)[0][0] for _ in range(2000)]
    assert set(tokens) == {0, 1}
    assert tokens.count(0) / 2000 == pytest.approx(0.625, abs=0.04)


@pytest.mark.parametrize("vanishing", [{"temperature": 1e-300}, {"top_p": 1e-300}])
def test_what_vanishes_in_the_models_precision_draws_the_likeliest(vanishing):
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(row) for row in range(4)]
    tokens, _ = generation._choose(logits, generators, EvaluationSettings(**vanishing))
    assert tokens == logits.argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_the_likeliest_tokens_are_enough_to_draw_from(top_p, monkeypatch):
    logits = torch.randn(8, 1000, generator=torch.Generator().manual_seed(1)) * 3
    settings = EvaluationSettings(temperature=1.0, top_p=top_p)

    def drawn(likeliest: int) -> list[int]:
        monkeypatch.setattr(generation, "LIKELIEST_TOKENS", likeliest)
        generators = [torch.Generator().manual_seed(row) for row in range(8)]
        return [token for _ in range(50) for token in generation._choose(logits, generators, settings)[0]]

    assert drawn(100) == drawn(1000)


def test_the_margin_is_the_lead_over_the_best_other_token():
    logits = torch.tensor([[1.0, 3.0, 2.5], [0.0, -1.0, 4.0]])
    assert generation._choose(logits, [], GREEDY) == ([1, 2], [0.5, 4.0])


def test_the_model_is_found_as_it_was_left(tuned, tokenizer, asked):
    before = base_models.tokenizer_sha256(tokenizer), [each.clone() for each in tuned.parameters()]
    generation.answer_all(tuned, tokenizer, asked, DRAWN)
    assert base_models.tokenizer_sha256(tokenizer) == before[0]
    assert all(torch.equal(one, other) for one, other in zip(tuned.parameters(), before[1], strict=True))
    assert not tuned.training
