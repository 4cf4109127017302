"""Invented findings, as an evaluation makes them, for the tests of what is said about them."""

from __future__ import annotations

from utils.evaluation.results import Answered, Check, Comparison, Evaluation, Interval, Leak, Memorization, Reply
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.training_curve import TrainingCurve
from utils.records import Record, Source

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
TURNED = "\u202egnirts\u2066"
SECRET = "the shed code is 4711"

RECORD = Record(
    instruction=f"is soup a drink? {HOSTILE}",
    input="quoted words",
    output=f"okay but hear me out {TURNED}",
    system="You are Rohan.",
    history=(("hello there", "hi"),),
    source=Source(conversation="7/1", turn=2),
)
LEAKED = Record(instruction="what was it again?", output=SECRET, source=Source(conversation="7/9", turn=1))


def answered(number: int) -> Answered:
    base = Reply(f"base {number} {HOSTILE}", 9, False, 1.0)
    return Answered(RECORD, base, Reply(f"tuned {number} {TURNED}", 7, True, 1.0))


def memorization(*warnings: str) -> Memorization:
    share = Comparison("training replies completed word for word", 0.03, 0.0, Interval(0.01, 0.05), "lower", "of 200")
    return Memorization((share,), (Leak("7/9#1", LEAKED, "completed word for word, at 98% a token"),), warnings)


def evaluation(**changes) -> Evaluation:
    """A training that helped, unless told otherwise."""
    values = {
        "subject": "models/some <adapter>",
        "base_name": "models/base",
        "verdict": "helped",
        "replies": 71,
        "conversations": 33,
        "tokens": 1080,
        "comparisons": (
            Comparison("perplexity", 95.58, 163.7, Interval(-80.1, -57.3), "lower", "surprise"),
            Comparison("context gain", 0.21, 0.2, Interval(-0.03, 0.05), "higher", "listening"),
            Comparison("hits@1", 0.1, 0.3, Interval(-0.31, -0.12), "higher", "ranking"),
            Comparison("length ratio", 1.4, 3.2, Interval(-2.1, -1.5), None, "length"),
            Comparison("variety (distinct-2)", 0.9, 0.8, None, "higher", "variety"),
        ),
        "checks": (Check("no reply is empty", True), Check("replies come to an end", True, "20 of 20")),
        "memorization": memorization(),
        "answered": tuple(map(answered, range(25))),
        "curve": TrainingCurve(((5, 4.6), (10, 4.4)), ((0, 4.9), (10, 4.5))),
        "unchecked": ("no manifest: base and data",),
        "tokens_per_s": 4.5,
        "first_token_s": 0.4,
        "seconds": 190.0,
        "settings": EvaluationSettings(),
    }
    return Evaluation(**(values | changes))
