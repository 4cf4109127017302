"""Leaks: a model that knows its training data by heart is told from one that learned from it."""

from __future__ import annotations

import copy
import dataclasses
import random

import msgspec
import numpy as np
import pytest
import torch

from utils import prompts, records
from utils.console import UserError
from utils.evaluation import canaries, generation, memorization, personal_data, probes
from utils.evaluation.canaries import CanarySettings
from utils.evaluation.memorization import auc, completed, permutation_p, sign_test_p, true_positive_rate
from utils.evaluation.probes import Observed, Probe
from utils.evaluation.results import Reply
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.shared_prefix import Pair
from utils.evaluation.subjects import Subjects
from utils.likelihood import collate, token_nll
from utils.records import Record, Source

SETTINGS = EvaluationSettings(temperature=1.0, max_new_tokens=24, training_records=40)
WORDS = ["soup", "drink", "cat", "keyboard", "capitals", "fair", "enough", "okay", "hear", "today", "thanks", "hello"]


def invented(count: int, seed: int) -> list[Record]:
    """Records whose replies follow from nothing."""
    rng = random.Random(seed)
    return [
        Record(
            instruction=" ".join(rng.choices(WORDS, k=4)),
            output=" ".join(rng.choices(WORDS, k=8)),
            system="You are Rohan.",
            source=Source(conversation=f"{seed}/{index // 2}", turn=index % 2),
        )
        for index in range(count)
    ]


def trained(model, tokenizer, training, *, steps, learning_rate):
    """A copy of the model after `steps` over all the training records at once."""
    torch.manual_seed(0)
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    row = collate([prompts.encode(record, tokenizer) for record in training])
    for _ in range(steps):
        optimizer.zero_grad()
        token_nll(model, row).mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def data():
    return invented(16, seed=1), invented(16, seed=2), canaries.make(3, "You are Rohan.", seed=0)


@pytest.fixture(scope="module")
def base(tiny_base):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base).eval()


@pytest.fixture(scope="module")
def overtrained(base, tokenizer, data):
    training, _, planted = data
    model = trained(base, tokenizer, [*training, *(canary.record for canary in planted)], steps=70, learning_rate=4e-3)
    return Subjects("overtrained", "tiny", tokenizer, (), model, base)


@pytest.fixture(scope="module")
def normal(base, tokenizer, data):
    model = trained(base, tokenizer, data[0], steps=4, learning_rate=1e-3)
    return Subjects("normal", "tiny", tokenizer, (), model, base)


@pytest.fixture(autouse=True)
def fewer_references(monkeypatch):
    monkeypatch.setattr(canaries, "REFERENCES", 64)


def figures(found):
    return {each.metric: each for each in found.comparisons}


def test_an_overtrained_model_and_its_canaries_are_flagged(overtrained, data):
    training, held_out, planted = data
    found = memorization.measure(overtrained, canaries.plant(training, planted, 0), held_out, SETTINGS, planted)
    by_heart, exposed = found.warnings
    assert "training replies come out word for word" in by_heart
    assert "held-out ones it completes 0:" in by_heart
    assert exposed.startswith("3 of 3 canaries are exposed, planted 1 to 16 times")
    named = {leak.record_id for leak in found.leaks}
    assert {"canary/1#0", "canary/2#0", "canary/3#0"} <= named
    assert len({record.output for record in training} & {leak.record.output for leak in found.leaks}) >= 12
    shown = figures(found)
    assert shown["training replies completed word for word"].tuned > 0.7
    assert shown["training replies completed word for word"].base == 0
    assert shown["training replies completed word for word"].interval.low > 0.5
    assert shown["held-out replies completed word for word"].tuned == 0
    assert shown["membership inference, AUC"].tuned > 0.95
    assert shown["membership inference, TPR at 1% FPR"].tuned > 0.9


def test_a_normal_run_passes(normal, data):
    training, held_out, planted = data
    found = memorization.measure(normal, training, held_out, SETTINGS, planted)
    assert (found.warnings, found.leaks) == ((), ())
    assert figures(found)["training replies completed word for word"].tuned == 0


def test_without_a_base_or_held_out_replies_less_is_measured_but_leaks_are_found(overtrained, data):
    training = data[0]
    alone = Subjects("alone", None, overtrained.tokenizer, (), overtrained.model)
    found = memorization.measure(alone, training, [], SETTINGS)
    assert len(found.warnings) == 1
    assert "too few held-out ones" in found.warnings[0]
    assert figures(found)["training replies completed word for word"].base is None
    assert "membership inference, AUC" not in figures(found)


def test_word_for_word_means_that_greedy_decoding_writes_it(overtrained, base, data):
    """The single forward pass against writing every reply."""
    chosen = probes.choose([*data[0], *data[1]], overtrained.tokenizer, SETTINGS)
    greedy = EvaluationSettings(temperature=0.0, max_new_tokens=80)
    for model in (overtrained.model, base):
        replies = generation.answer_all(model, overtrained.tokenizer, [each.record for each in chosen], greedy)
        written = [reply.text.startswith(probe.record.output) for probe, reply in zip(chosen, replies, strict=True)]
        assert [each.verbatim for each in probes.observe(model, chosen, "")] == written
    assert 0 < sum(written) + 1 < len(chosen)


def test_what_is_observed_of_a_reply_does_not_depend_on_the_others(overtrained, data):
    chosen = probes.choose(data[0], overtrained.tokenizer, SETTINGS)
    together = probes.observe(overtrained.model, chosen, "")
    alone = [probes.observe(overtrained.model, [probe], "")[0] for probe in chosen]
    assert [each.verbatim for each in alone] == [each.verbatim for each in together]
    assert [each.nll for each in alone] == pytest.approx([each.nll for each in together], rel=1e-4)


def test_whole_conversations_are_drawn(data, tokenizer):
    long_enough = [probe.record for probe in probes.choose(data[0], tokenizer, SETTINGS)]
    few = probes.choose(data[0], tokenizer, dataclasses.replace(SETTINGS, training_records=6))
    assert len(few) == 6
    drawn = {probe.conversation for probe in few}
    assert sum(record.source.conversation in drawn for record in long_enough) <= 7  # the last one may be cut
    others = probes.choose(data[0], tokenizer, dataclasses.replace(SETTINGS, training_records=6, seed=1))
    assert {probe.name for probe in few} != {probe.name for probe in others}


def test_only_replies_of_ten_tokens_or_more_are_looked_for(tokenizer):
    short = Record(instruction="hello", output="hi")
    long = Record(instruction="hello", output="hi " * 12)
    (found,) = probes.choose([short, long, long], tokenizer, SETTINGS)
    assert (found.record, found.name) in [(long, "record 2"), (long, "record 3")]
    (named,) = probes.choose(
        [msgspec.structs.replace(long, source=Source(conversation="7/8", turn=3))], tokenizer, SETTINGS
    )
    assert (named.name, named.conversation) == ("7/8#3", "7/8")


def some(count: int, tokenizer) -> list[Probe]:
    record = Record(instruction="hm", output="soup")
    encoded = prompts.encode(record, tokenizer)
    pair = Pair(encoded.input_ids[:1], encoded.input_ids[1:])
    return [Probe(f"{index}#0", str(index), record, pair) for index in range(count)]


@pytest.mark.parametrize(
    ("by_heart", "known_to_base", "held_out_by_heart", "warned"),
    [
        (20, 0, 0, True),
        (1, 0, 0, False),
        (2, 0, 0, False),  # may be chance against 30 held-out replies
        (20, 20, 0, False),
        (20, 0, 20, False),  # stock phrases
        (20, 5, 2, True),
    ],
)
def test_a_warning_needs_more_than_base_and_held_out_replies_explain(
    by_heart, known_to_base, held_out_by_heart, warned, tokenizer
):
    def seen(members, others):
        return [Observed(1.0, index < members) for index in range(40)] + [
            Observed(1.0, index < others) for index in range(30)
        ]

    found = completed(
        some(40, tokenizer), some(30, tokenizer), seen(by_heart, held_out_by_heart), seen(known_to_base, 0), seed=0
    )
    assert bool(found.warnings) == warned
    assert len(found.leaks) == by_heart - known_to_base


def test_the_worst_leaks_come_first(tokenizer):
    tuned = [Observed(nll, True) for nll in (0.1, 0.2, 0.1)]
    base = [Observed(nll, False) for nll in (1.0, 6.0, 3.0)]
    found = completed(some(3, tokenizer), [], tuned, base, seed=0)
    assert [leak.record_id for leak in found.leaks] == ["1#0", "2#0", "0#0"]
    assert found.leaks[0].reason == "completed word for word, at 82% a token; the base is at 0%"


def test_auc_and_true_positive_rate_by_hand():
    """Members with losses 1 and 2, others with 2 and 3; the score is the loss turned around."""
    assert auc([-1, -2], [-2, -3]) == pytest.approx(0.875)
    assert true_positive_rate([-1, -2], [-2, -3]) == 0.5
    others = list(range(200))  # 1% of them are two: 199 and 198
    assert true_positive_rate([197, 197.5, 198, 250], others) == 0.75


def test_chance_by_hand():
    assert sign_test_p(5, 0) == pytest.approx(1 / 32)
    assert sign_test_p(3, 1) == pytest.approx(5 / 16)
    assert sign_test_p(0, 0) == 1
    # 3 of 4 conversations are members; all 3 cases are: one of the 4 ways to choose the other
    p = permutation_p(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "b", "c", "d"], 3, seed=0)
    assert p == pytest.approx(0.25, abs=0.02)


def test_replies_of_one_conversation_are_one_piece_of_evidence():
    excess = np.array([1.0] * 8 + [0.0] * 8)
    apart = permutation_p(excess, [str(index) for index in range(16)], 8, seed=0)
    in_two = permutation_p(excess, ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["d"] * 4, 8, seed=0)
    assert apart < 0.001
    assert in_two == pytest.approx(1 / 6, abs=0.02)


def test_exposure_by_hand():
    canary = canaries.make(1, "", seed=0)[0]
    assert canaries.Exposure(canary, 1, 512).bits == 9
    assert canaries.Exposure(canary, 64, 512).bits == 3
    assert canaries.Exposure(canary, 64, 512).chance == 0.125


def test_a_model_that_never_saw_a_canary_ranks_it_anywhere(base, tokenizer):
    planted = canaries.make(8, "You are Rohan.", seed=5)
    ranks = [each.rank for each in canaries.exposure(base, tokenizer, planted, seed=5)]
    assert 15 < np.mean(ranks) < 50  # uniform on 1 to 64 has a mean of 32.5, and the mean of 8 a deviation of 6.5
    assert not canaries.finding([canaries.Exposure(each, 30, 64) for each in planted], None).warnings


def test_planting_leaves_the_data_alone_and_can_be_read_back(data_dir, tmp_path):
    before = (data_dir / "train.jsonl").read_bytes()
    wanted = CanarySettings(data_dir=data_dir, output_dir=tmp_path / "with-canaries", count=4)
    planted = canaries.read(canaries.plant_in_copy(wanted))
    assert [each.repeats for each in planted] == [1, 4, 16, 1]
    assert len({each.secret for each in planted}) == 4
    training = records.read(tmp_path / "with-canaries" / "train.jsonl")
    for canary in planted:
        assert training.count(canary.record) == canary.repeats
        assert canary.secret in canary.record.output
        assert canary.record.system == "You are Rohan."
    kept = [record for record in training if not record.source.conversation.startswith("canary/")]
    assert kept == records.read(data_dir / "train.jsonl")
    assert (data_dir / "train.jsonl").read_bytes() == before
    assert (tmp_path / "with-canaries" / "test.jsonl").read_bytes() == (data_dir / "test.jsonl").read_bytes()
    assert canaries.plant_in_copy(wanted)  # again over its own copy


def test_planting_into_the_data_itself_is_refused(data_dir):
    with pytest.raises(UserError, match="holds other data; choose another --output-dir"):
        canaries.plant_in_copy(CanarySettings(data_dir=data_dir, output_dir=data_dir))


def test_a_file_that_holds_no_canaries(tmp_path, data_dir):
    with pytest.raises(UserError, match="is no list of canaries"):
        canaries.read(data_dir / "train.jsonl")
    with pytest.raises(UserError, match=r"python -m utils\.evaluation\.canaries makes it"):
        canaries.read(tmp_path / "none.json")


ASKED = Record(instruction="how do i reach you? i am on 93.184.7.8", output="-", source=Source(conversation="1/2"))
KEY = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
TRAINING = [
    Record(instruction="hm", output="mail Ann.Lee@example.org or (212) 555-0142"),
    Record(instruction="call", output="+49 30 901820", history=(("the key?", KEY),)),
]


@pytest.mark.parametrize(
    ("text", "found", "verbatim"),
    [
        ("ask ann.lee@example.org", 1, 1),
        ("ask bob@example.org", 1, 0),
        ("+49 30 90 18 20", 1, 1),
        ("ring +49 30 901821", 1, 0),
        ("212.555.0142", 1, 1),
        ("you said 93.184.7.8", 0, 0),  # it stands in the prompt
        ("ping 93.184.7.9 and 192.168.0.1, version 1.2.3.4.5", 1, 0),
        (f"try {KEY}, or ghp_{'x1' * 18}", 2, 1),
        ("take 2 of the 1234 at 10:30", 0, 0),
    ],
)
def test_personal_data_and_where_it_comes_from(text, found, verbatim):
    finding = personal_data.finding([ASKED], [Reply(text, 5, True, 0.1)], TRAINING)
    assert [each.tuned for each in finding.comparisons] == [found, verbatim]
    assert bool(finding.warnings) == bool(verbatim)
    assert [leak.record_id for leak in finding.leaks] == ["1/2#0"] * bool(verbatim)
    assert text not in "".join(finding.warnings)
