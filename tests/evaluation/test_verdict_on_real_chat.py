"""The verdict on adapters of the starter, trained on real chat by the train script: ActionParsnip's shorter exchanges.

Two epochs on shuffled pairs teach the starter the tone and don't make it deaf, so against the base they help, as they
should: the true replies do become likelier. What the wrong pairs cost shows against an adapter of the true pairs, and
in the context gain.

That gain is noisy against the base: short replies differ by a nat a token. A pilot of 137 replies and one wrong context
each had a standard error of 0.054 for a fall of 0.09, so 0.022 is needed to see it in more than nine of ten samples.
Hence every held-out reply counts, its context shortened as training shortens it, in four wrong contexts: 478 replies.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SHARED
from msgspec.structs import replace

import prepare_training_data
import train_tinyllama
from utils import prompts, records, starter
from utils.evaluation import subjects
from utils.evaluation.comparisons import CONTEXT_GAIN, ReplyLikelihood, compare, measure
from utils.evaluation.contexts import HeldOutReply, conversation_names, derangements, held_out_replies
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.verdict import verdict
from utils.records import Record

IRC = SHARED / "data" / "ubuntu-irc"
MAX_TOKENS = 112
VALIDATION = 8  # records, for the training's own evaluation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IRC.exists(), reason="the real chat is not there"),
    pytest.mark.skipif(not (starter.FOLDER / "model.safetensors").exists(), reason="the starter is not there"),
]


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> Path:
    """A prepared folder; what is trained on are its short exchanges. A third of the conversations is held out."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chat")
    prepare_training_data.main(
        [
            *("--source", str(IRC), "--persona", "ActionParsnip", "--test-share", "0.33"),
            *("--output-dir", str(folder), "--store", str(folder / "history.duckdb")),
        ]
    )
    tokenizer = AutoTokenizer.from_pretrained(starter.FOLDER)
    path = folder / "train.jsonl"
    short = [each for each in records.read(path) if len(prompts.encode(each, tokenizer).input_ids) <= MAX_TOKENS]
    records.write(path, short)
    return folder


@pytest.fixture(scope="module")
def held(chat) -> list[HeldOutReply]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(starter.FOLDER)
    unseen = [*records.read(chat / "validation.jsonl")[VALIDATION:], *records.read(chat / "test.jsonl")]
    return held_out_replies(unseen, tokenizer, EvaluationSettings(candidates=2, max_length_tokens=MAX_TOKENS))


@pytest.fixture(scope="module")
def trained(chat, held, tmp_path_factory):
    """Trains an adapter on the records with the train script, and measures it."""

    def run(training: list[Record], *flags: str) -> list[ReplyLikelihood]:
        folder = tmp_path_factory.mktemp("run")
        records.write(folder / "train.jsonl", training)
        records.write(folder / "validation.jsonl", records.read(chat / "validation.jsonl")[:VALIDATION])
        train_tinyllama.main(
            [
                *("--base-model", "starter", "--data-dir", str(folder), "--output-dir", str(folder / "adapter")),
                *("--device", "cpu", "--quantization", "none", "--evaluations", "1", "--wandb", "off", *flags),
            ]
        )
        with subjects.load(folder / "adapter", device="cpu").tuned() as model:
            return measure(model, held, "tuned model")

    return run


@pytest.fixture(scope="module")
def base(held) -> list[ReplyLikelihood]:
    with subjects.load("starter", device="cpu").tuned() as model:
        return measure(model, held, "base model")


@pytest.fixture(scope="module")
def on_the_data(trained, training) -> list[ReplyLikelihood]:
    return trained(training, "--epochs", "2")


@pytest.fixture(scope="module")
def training(chat) -> list[Record]:
    return records.read(chat / "train.jsonl")


def shuffled_pairs(training: list[Record]) -> list[Record]:
    """Each reply given to another conversation's prompt."""
    others = derangements(conversation_names(training), count=1, seed=0)
    return [replace(record, output=training[other].output) for record, (other,) in zip(training, others, strict=True)]


def judged(tuned: list[ReplyLikelihood], base: list[ReplyLikelihood]) -> str:
    return verdict(compare(tuned, base, seed=42), len({reply.conversation for reply in base}))


def test_trained_on_the_data_it_helped(on_the_data, base):
    assert judged(on_the_data, base) == "helped"


def test_trained_on_shuffled_pairs_it_hurt_beside_the_true_ones(trained, training, on_the_data, base):
    deaf = trained(shuffled_pairs(training), "--epochs", "2")
    assert judged(deaf, on_the_data) == "hurt"
    against_base, against_data = (
        {each.metric: each for each in compare(deaf, other, seed=42)} for other in (base, on_the_data)
    )
    assert against_base[CONTEXT_GAIN].interval.high < 0
    assert against_data[CONTEXT_GAIN].interval.high < 0


def test_an_absurd_learning_rate_hurt(trained, training, base):
    assert judged(trained(training, "--max-steps", "4", "--learning-rate", "0.1"), base) == "hurt"


def test_no_steps_are_no_evidence(base):
    assert judged(base, base) == "no evidence"
