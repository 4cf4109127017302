"""Which records are looked at, and where the findings go."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from utils import records
from utils.console import UserError
from utils.evaluation import scope
from utils.evaluation.settings import EvaluationSettings, shortened
from utils.records import Record, Source


def held_out(*sizes: int) -> list[Record]:
    """Conversations of these sizes."""
    return [
        Record(instruction="so?", output=f"{number} {turn}", source=Source(conversation=f"1/{number}", turn=turn))
        for number, size in enumerate(sizes)
        for turn in range(size)
    ]


def test_a_sample_takes_one_reply_of_each_conversation_before_a_second():
    found = held_out(9, 1, 5, 3)
    for count, wanted in ((4, [1, 1, 1, 1]), (7, [2, 2, 2, 1]), (18, [9, 5, 3, 1]), (50, [9, 5, 3, 1])):
        sample = scope.spread(found, count, seed=1)
        assert len(set(sample)) == len(sample) == min(count, 18)
        assert sorted(Counter(each.source.conversation for each in sample).values(), reverse=True) == wanted


def test_a_sample_follows_from_its_seed_and_a_smaller_one_begins_a_larger_one():
    found = held_out(*[3] * 20)
    assert scope.spread(found, 30, seed=1) == scope.spread(found, 30, seed=1) != scope.spread(found, 30, seed=2)
    assert scope.spread(found, 30, seed=1)[:8] == scope.spread(found, 8, seed=1)


def test_records_without_a_conversation_are_one_each():
    found = [Record(instruction="so?", output=str(number)) for number in range(5)]
    assert len(scope.spread(found, 4, seed=0)) == 4


def test_findings_go_where_the_model_is_or_where_one_says(tmp_path):
    assert scope.output_folder(EvaluationSettings(adapter=str(tmp_path))) == tmp_path
    assert scope.output_folder(EvaluationSettings(adapter="owner/name")) == Path("models/evaluations/owner--name")
    asked = EvaluationSettings(adapter=str(tmp_path), output_dir=tmp_path / "new" / "folder")
    assert scope.output_folder(asked) == tmp_path / "new" / "folder"


@pytest.fixture
def prepared(tmp_path) -> EvaluationSettings:
    """Settings for a test file with a train.jsonl beside it, and for a folder whose manifest names its sha256."""
    records.write(tmp_path / "train.jsonl", held_out(2))
    sha256 = hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()
    manifest = {
        "base_model": "b",
        "base_path": "b",
        "fingerprints": {"tokenizer": "", "base weights": "", "training data": sha256},
        "settings": {"quantization": "none", "lora_rank": 4, "lora_alpha": 4},
        "sha256": {},
    }
    (tmp_path / "training.json").write_text(json.dumps(manifest))
    return EvaluationSettings(adapter=str(tmp_path), test_file=tmp_path / "test.jsonl")


def test_the_training_records_stand_beside_the_held_out_ones(prepared):
    found = scope.training_replies(prepared)
    assert (len(found.records), found.unchecked) == (2, ())


def test_unasked_the_held_out_records_are_those_of_the_training(prepared, tmp_path):
    """Another persona's records may have been prepared since."""
    unasked = EvaluationSettings(adapter=str(tmp_path))
    assert scope.with_held_out(prepared) == prepared
    assert scope.with_held_out(unasked).test_file == Path("data/processed/test.jsonl")
    manifest = json.loads((tmp_path / "training.json").read_text())
    for elsewhere in ("d" * 300, "another\0machine", str(tmp_path / "data")):  # nothing lies there, or ever can
        manifest["settings"]["data_dir"] = elsewhere
        (tmp_path / "training.json").write_text(json.dumps(manifest))
        assert scope.with_held_out(unasked).test_file == Path("data/processed/test.jsonl")
    records.write(tmp_path / "data/test.jsonl", held_out(1))
    assert scope.with_held_out(unasked).test_file == tmp_path / "data/test.jsonl"


def test_other_training_records_are_doubtful(prepared, tmp_path):
    records.write(tmp_path / "train.jsonl", held_out(3))
    found = scope.training_replies(prepared)
    assert len(found.records) == 3 and "has changed since" in found.unchecked[0]


def test_a_training_file_that_was_asked_for_must_be_there(prepared, tmp_path):
    with pytest.raises(UserError, match="no records at"):
        scope.training_replies(EvaluationSettings(train_file=tmp_path / "gone.jsonl"))


def test_quick_is_less_of_everything_and_never_more():
    quick = shortened(EvaluationSettings())
    assert (quick.records, quick.training_records) == (30, 0) and quick.prompts < EvaluationSettings().prompts
    few = EvaluationSettings(
        records=3,
        prompts=1,
        candidates=2,
        wrong_contexts=1,
        max_length_tokens=64,
        max_new_tokens=8,
        training_records=0,
    )
    assert shortened(few) == few


@pytest.mark.parametrize(
    ("positions", "tokens"), [(None, 512), (4096, 512), (1024, 512), (512, 256), (100, 36), (90, None)]
)
def test_prompts_leave_room_for_a_reply_among_the_models_positions(positions, tokens, monkeypatch, capsys):
    monkeypatch.setattr(scope, "position_limit", lambda model: positions)
    wanted = EvaluationSettings(max_new_tokens=64)
    if tokens is None:
        with pytest.raises(UserError, match="lower --max-new-tokens"):
            scope.within_positions(wanted, None)
        return
    assert scope.within_positions(wanted, None).max_length_tokens == tokens
    assert ("prompts are shortened" in capsys.readouterr().err) is (tokens < 512)
