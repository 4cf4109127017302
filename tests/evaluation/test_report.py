"""What an evaluation says: sentence, figures, advice, evaluation.json, and a summary that fits a screen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation import findings
from utils.evaluation import advice, report, summary, training_curve
from utils.evaluation.results import Check, Comparison, Interval
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.training_curve import TrainingCurve

FAILED = (Check("no reply is empty", True), Check("replies come to an end", False, "0 of 20"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The training helped."),
        ({"verdict": "hurt"}, "The training hurt."),
        ({"checks": FAILED}, "The training helped; 1 of 2 checks failed."),
        ({"memorization": findings.memorization("w")}, "The training helped; it repeats its training data."),
        ({"verdict": "too little to tell"}, "Too few held-out conversations to tell whether the training helped."),
    ],
)
def test_the_verdict_in_one_line(changes, said):
    assert report.sentence(findings.evaluation(**changes)) == said


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"verdict": "hurt"}, False),
        ({"checks": FAILED}, False),
        ({"verdict": "no evidence"}, True),
        ({"verdict": "too little to tell"}, True),
        ({"memorization": findings.memorization("a warning")}, True),
    ],
)
def test_what_fails(changes, passed):
    assert findings.evaluation(**changes).passed is passed


@pytest.mark.parametrize(
    ("value", "shown", "with_sign"),
    [
        (0.0, "0.000", "+0.000"),
        (-0.0714, "-0.071", "−0.071"),
        (12.345, "12.35", "+12.35"),
        (163.7, "163.70", "+163.70"),
        (12345.6, "12,346", "+12,346"),
        (3.2e8, "3.2e+08", "+3.2e+08"),
        (float("inf"), "inf", "+inf"),
        (float("nan"), "–", "–"),
        (None, "–", "–"),
    ],
)
def test_figures(value, shown, with_sign):
    assert report.figure(value) == shown
    assert report.signed(value) == with_sign


def test_the_json_holds_all_figures_and_no_text():
    nan = Comparison("odd", float("nan"), float("inf"), Interval(float("nan"), 1.0))
    found = findings.evaluation(comparisons=(*findings.evaluation().comparisons, nan))
    data = report.encode(replace(found, settings=EvaluationSettings(show_text=True, system="secret orders")))
    content = json.loads(data, parse_constant=lambda name: pytest.fail(name))
    assert (content["passed"], content["verdict"]) == (True, "helped")
    assert content["held_out"] == {"replies": 71, "conversations": 33, "tokens": 1080}
    assert content["metrics"][0] == {
        "name": "perplexity",
        "base": 163.7,
        "tuned": 95.58,
        "difference": pytest.approx(-68.12),
        "interval": [-80.1, -57.3],
        "better": "lower",
        "meaning": "surprise",
    }
    assert content["metrics"][-1]["tuned"] is None and content["metrics"][-1]["interval"] == [None, 1.0]
    assert content["memorization"]["leaks"] == [
        {"record": "7/9#1", "reason": "completed word for word, at 98% a token"}
    ]
    assert {"torch", "transformers", "peft"} <= content["versions"].keys()
    text = data.decode()
    for words in (
        "soup",
        "hear me out",
        "tuned 1",
        "base 1",
        "hello there",
        "quoted",
        "4711",
        "Rohan",
        "secret orders",
    ):
        assert words not in text, words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "--chat"),
        ({"verdict": "hurt"}, "Lower LEARNING_RATE"),
        ({"verdict": "no evidence"}, "Train longer"),
        ({"verdict": "too little to tell", "conversations": 12}, "12 conversations were tested, and 30 it takes"),
        ({"verdict": "no base to compare with", "base_name": None}, "--base-model"),
        ({"memorization": findings.memorization("a warning")}, "don't give it away"),
        ({"memorization": None}, "test what it repeats"),
        ({"curve": TrainingCurve((), ((0, 5.0), (10, 4.0), (20, 4.5)))}, "overfit"),
        ({"curve": TrainingCurve((), ((0, 5.0), (10, 4.0)))}, "still falling"),
    ],
)
def test_advice_follows_from_the_findings(changes, words):
    assert any(words in line for line in advice.how_to_go_on(findings.evaluation(**changes)))


def test_a_model_that_fails_is_not_recommended():
    lines = advice.how_to_go_on(findings.evaluation(checks=FAILED))
    assert lines[0].startswith("A check failed") and not any("--chat" in line for line in lines)


def test_a_training_curve_out_of_a_damaged_file(tmp_path):
    rows = [
        {"step": 0, "eval_loss": 4.9},
        {"step": 5, "loss": 4.5},
        {"step": 5, "loss": float("nan")},
        {"step": "6", "loss": 1.0},
        [1],
    ]
    text = "\n".join(map(json.dumps, rows)) + '\n{"step": 10, "eval_loss": 4.6, "loss": "x"}\n{"step": 15, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert training_curve.read(tmp_path) == TrainingCurve(((5, 4.5),), ((0, 4.9), (10, 4.6)))
    assert training_curve.read(tmp_path / "elsewhere") is None


def test_the_summary_fits_a_screen(capsys):
    many = tuple(Comparison(name, -0.5, -12345.6, Interval(-99999, -5555.5), "lower") for name in summary.METRICS_SHOWN)
    worst = findings.evaluation(
        subject="models/" + "long/" * 30,
        verdict="hurt",
        comparisons=many,
        checks=tuple(Check(f"{findings.TURNED}\x1b[31m{findings.HOSTILE * 3}", False, "x\n" * 50) for _ in range(6)),
        memorization=findings.memorization("a warning " * 30),
    )
    summary.show(worst, Path("models/evaluation.html"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[1].startswith("The training hurt; 6 of 6 checks failed")
    assert lines[-1] == "page    models/evaluation.html"
    assert not any(mark in "".join(lines) for mark in "\x1b\u202e\u2066")
    for name in summary.METRICS_SHOWN:
        assert any(line.startswith(name) for line in lines)


def test_a_command_is_one_line_whatever_its_length(capsys):
    subject = "models/quite a long name of a folder for a single adapter"
    summary.show(findings.evaluation(subject=subject), Path("models/evaluation.html"))
    assert f"test_model_loading.py --adapter '{subject}' --chat\n" in capsys.readouterr().out


def test_examples_are_one_line_each(capsys):
    summary.show_examples(findings.evaluation().answered)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert sum(line.startswith("  tuned    tuned") for line in lines) == 3
    assert "\u202e" not in "".join(lines)
