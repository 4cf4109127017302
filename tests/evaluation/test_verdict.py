"""The verdict on adapters of which it is known what they do.

The tiny base has read 36 people who say the same things in their own manner, and answers by the topic. Adapters are
trained on one of them.
"""

from __future__ import annotations

import copy
import math
import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from utils import prompts
from utils.evaluation.comparisons import CONTEXT_GAIN, LISTENS, MRR, NLL, PERPLEXITY, ReplyLikelihood, compare, measure
from utils.evaluation.contexts import held_out_replies
from utils.evaluation.results import Comparison, Interval
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.verdict import verdict
from utils.likelihood import collate, token_nll
from utils.records import Record, Source

ANSWERS = {
    "soup": "a drink",
    "cat": "on the keyboard",
    "keyboard": "in capitals",
    "hear": "hello there",
    "thanks": "fine",
    "today": "hear me",
    "sat": "the cat",
    "fair": "enough",
    "drink": "okay",
    "capitals": "again",
}
FILLERS = ("and", "is", "are you", "how")
BEFORE = ("", "well", "hm", "okay but", "how", "the")
AFTER = ("", "no.", "lol", "out", "i am", "now")
MANNERS = [(before, after) for before in BEFORE for after in AFTER]
PERSONA = ("okay but", "no.")
CONVERSATIONS = 40


def chat(count: int, manner: tuple[str, str], seed: int) -> list[Record]:
    rng = random.Random(seed)
    records = []
    for index in range(count):
        topic = rng.choice(list(ANSWERS))
        reply = " ".join(part for part in (manner[0], ANSWERS[topic], manner[1]) if part)
        source = Source(conversation=f"{seed}/{index}")
        asked = f"{rng.choice(FILLERS)} {topic}"
        records.append(Record(instruction=asked, output=reply, system="You are Rohan.", source=source))
    return records


def shuffled_pairs(records: list[Record], seed: int) -> list[Record]:
    outputs = [record.output for record in records]
    random.Random(seed).shuffle(outputs)
    return [msgspec.structs.replace(record, output=output) for record, output in zip(records, outputs, strict=True)]


def train(model, tokenizer, records: list[Record], steps: int, learning_rate: float):
    """Adam with a tenth of the steps to warm up and then a linear decay: without them, what the last steps happened to
    do decided how good the model was, so that rounding on another processor gave another verdict."""
    rng = random.Random(0)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=learning_rate)
    encoded = [prompts.encode(record, tokenizer) for record in records]
    warmup = max(1, steps // 10)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * min((step + 1) / warmup, (steps - step) / (steps - warmup))
        optimizer.zero_grad()
        token_nll(model, collate(rng.sample(encoded, 16))).mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def talker(tiny_base, tokenizer):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    people = [record for seed, manner in enumerate(MANNERS) for record in chat(20, manner, seed)]
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    return train(model, tokenizer, people, steps=200, learning_rate=5e-3).requires_grad_(False)


@pytest.fixture(scope="module")
def held(tokenizer):
    return held_out_replies(chat(CONVERSATIONS, PERSONA, seed=100), tokenizer, EvaluationSettings())


@pytest.fixture(scope="module")
def base(talker, held):
    return measure(talker, held, "")


@pytest.fixture(scope="module")
def compared(talker, tokenizer, held, base):
    """Trains an adapter on the base, and compares the two."""

    def run(records: list[Record], steps: int, learning_rate: float = 3e-3) -> list[Comparison]:
        torch.manual_seed(0)
        lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
        adapted = get_peft_model(copy.deepcopy(talker), lora)
        return compare(measure(train(adapted, tokenizer, records, steps, learning_rate), held, ""), base, seed=0)

    return run


def named(found: list[Comparison]) -> dict[str, Comparison]:
    return {each.metric: each for each in found}


def test_the_base_understands_and_knows_no_persona(base):
    found = named(compare(base, None, seed=0))
    assert found[CONTEXT_GAIN].tuned > 0.5
    assert found[LISTENS].tuned > 0.8
    assert found[MRR].tuned > 0.9


def test_trained_on_the_person_it_helped(compared):
    found = compared(chat(100, PERSONA, seed=200), steps=30)
    assert verdict(found, CONVERSATIONS) == "helped"
    assert named(found)[PERPLEXITY].tuned < 0.9 * named(found)[PERPLEXITY].base


def test_trained_on_shuffled_pairs_it_hurt_though_likelihood_rose(compared):
    found = compared(shuffled_pairs(chat(100, PERSONA, seed=200), seed=0), steps=30)
    assert named(found)[NLL].interval.high < 0  # it did pick up the tone
    assert named(found)[MRR].interval.high < -0.1
    assert verdict(found, CONVERSATIONS) == "hurt"


def test_an_absurd_learning_rate_hurt(compared):
    assert verdict(compared(chat(100, PERSONA, seed=200), steps=10, learning_rate=0.5), CONVERSATIONS) == "hurt"


def test_no_steps_are_no_evidence(compared):
    found = compared(chat(100, PERSONA, seed=200), steps=0)
    assert verdict(found, CONVERSATIONS) == "no evidence"
    assert all(each.difference == 0 and not each.interval.excludes_zero for each in found)


def swapped(one: list[ReplyLikelihood], other: list[ReplyLikelihood], rng: random.Random):
    """Two equals: of each reply, either may come from either model."""
    pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in zip(one, other, strict=True)]
    return [first for first, _ in pairs], [second for _, second in pairs]


def test_equals_rarely_differ(base):
    rng = np.random.default_rng(0)
    noisy = [
        replace(each, nll=each.nll + rng.normal(0, 1), rank=min(each.candidates, each.rank + rng.integers(0, 3)))
        for each in base
    ]
    found = [
        verdict(compare(*swapped(base, noisy, random.Random(seed)), seed=seed), CONVERSATIONS) for seed in range(100)
    ]
    assert found.count("no evidence") >= 85
    assert found.count("helped") <= 8


def difference(metric: str, low: float, high: float) -> Comparison:
    return Comparison(metric, tuned=1 + (low + high) / 2, base=1.0, interval=Interval(low, high))


def test_a_smaller_gain_in_nats_is_no_harm():
    found = [difference(NLL, -0.2, -0.1), difference(CONTEXT_GAIN, -0.2, -0.1), difference(MRR, -0.1, 0.1)]
    assert verdict(found, 30) == "helped"


@pytest.mark.parametrize(
    ("nll", "listening", "expected"),
    [
        ((-0.2, -0.1), (0.1, 0.2), "helped"),
        ((-0.2, -0.1), (-0.1, 0.2), "helped"),
        ((-0.2, -0.1), (-0.2, -0.1), "hurt"),
        ((-0.2, 0.1), (-0.2, -0.1), "hurt"),
        ((0.1, 0.2), (0.1, 0.2), "hurt"),
        ((-0.1, 0.2), (-0.1, 0.2), "no evidence"),
        ((-0.1, 0.2), (0.1, 0.2), "no evidence"),
        ((-0.2, 0.0), (0.0, 0.0), "no evidence"),
    ],
)
def test_the_rule(nll, listening, expected):
    found = [difference(NLL, *nll), difference(MRR, *listening)]
    assert verdict(found, 30) == expected
    assert verdict(found, 29) == "too little to tell"
    assert verdict([difference(NLL, *nll), difference(LISTENS, *listening)], 30) == expected
    assert verdict([*found, difference(LISTENS, -0.2, -0.1)], 30) == expected


def test_without_a_base(base):
    assert verdict(compare(base, None, seed=0), CONVERSATIONS) == "no base to compare with"


def test_a_model_of_nan_hurt(base):
    broken = [replace(each, nll=math.nan, wrong_nlls=(math.nan,), empty_nll=math.nan) for each in base]
    assert verdict(compare(broken, base, seed=0), CONVERSATIONS) == "hurt"


def test_likelihood_by_hand():
    """True contexts {1, 2} and wrong ones {2, 2} nats a token: a gain of 0.5, and half of the replies gain."""
    first = ReplyLikelihood(
        "a", tokens=2, characters=8, nll=2.0, wrong_nlls=(4.0,), empty_nll=3.0, candidates=10, rank=1, pmi_rank=2
    )
    second = ReplyLikelihood(
        "b", tokens=4, characters=8, nll=8.0, wrong_nlls=(8.0,), empty_nll=8.0, candidates=10, rank=2, pmi_rank=1
    )
    found = {each.metric: each.tuned for each in compare([first, second], None, seed=0)}
    assert found[NLL] == pytest.approx(10 / 6)
    assert found[PERPLEXITY] == pytest.approx(math.exp(10 / 6))
    assert found["bits per character"] == pytest.approx(10 / math.log(2) / 16)
    assert found[CONTEXT_GAIN] == pytest.approx(0.5)
    assert found[LISTENS] == 0.5
    assert found["context gain over nothing"] == pytest.approx(0.25)
    assert (found["hits@1"], found[MRR]) == (0.5, 0.75)
    assert (found["hits@1 by PMI"], found["MRR by PMI"]) == (0.5, 0.75)


def test_several_wrong_contexts_by_hand():
    """A reply of two tokens at 1 nat each, and at 2, 1/2 and 3 in wrong contexts: gains of 1, -1/2 and 2."""
    reply = ReplyLikelihood("a", 2, 8, 2.0, (4.0, 1.0, 6.0), 3.0, 1, None, None)
    found = {each.metric: each.tuned for each in compare([reply], None, seed=0)}
    assert found[CONTEXT_GAIN] == pytest.approx(2.5 / 3)
    assert found[LISTENS] == pytest.approx(2 / 3)


def test_perplexity_by_hand():
    """Two tokens of sum 2 and four of sum 12."""
    replies = [
        ReplyLikelihood("a", 2, 8, 2.0, (), 3.0, 1, None, None),
        ReplyLikelihood("b", 4, 8, 12.0, (), 8.0, 1, None, None),
    ]
    found = {each.metric: each.tuned for each in compare(replies, None, seed=0)}
    assert found[NLL] == pytest.approx(2.3333, abs=1e-4)
    assert found[PERPLEXITY] == pytest.approx(10.312, abs=1e-3)
    assert CONTEXT_GAIN not in found  # one conversation alone has no wrong context
    assert MRR not in found
