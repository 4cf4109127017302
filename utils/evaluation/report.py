"""What an evaluation says in words and figures, and evaluation.json."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from utils import settings
from utils.evaluation.results import Comparison, Evaluation
from utils.evaluation.settings import EvaluationSettings

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
SENTENCES = {
    "helped": "The training helped",
    "hurt": "The training hurt",
    "no evidence": "No evidence that the training helped",
    "too little to tell": "Too few held-out conversations to tell whether the training helped",
    "no base to compare with": "Tested without a base model to compare with",
}


def sentence(evaluation: Evaluation) -> str:
    """The verdict and what else must be known, as one line."""
    parts = [SENTENCES[evaluation.verdict]]
    failed = sum(not check.passed for check in evaluation.checks)
    if failed:
        parts.append(f"{failed} of {len(evaluation.checks)} checks failed")
    if evaluation.memorization and evaluation.memorization.warnings:
        parts.append("it repeats its training data")
    return "; ".join(parts) + "."


def measured_on(evaluation: Evaluation) -> str:
    """What was compared with what, on how much."""
    against = f" against {evaluation.base_name}" if evaluation.base_name else ""
    return (
        f"On {_count(evaluation.replies, 'held-out reply', 'held-out replies')} in"
        f" {_count(evaluation.conversations, 'conversation', 'conversations')}: {evaluation.subject}{against}."
    )


def warnings(evaluation: Evaluation) -> list[str]:
    """What a person must not overlook: failed checks, and what it gives away."""
    failed = [
        f"Failed: {check.name}" + (f" ({check.detail})" if check.detail else "") + "."
        for check in evaluation.checks
        if not check.passed
    ]
    return failed + list(evaluation.memorization.warnings if evaluation.memorization else ())


def find(comparisons: Sequence[Comparison], metric: str) -> Comparison | None:
    return next((each for each in comparisons if each.metric == metric), None)


def figure(value: float | None) -> str:
    """Three decimals or fewer, so that columns stay narrow."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value) or abs(value) >= 1e6:
        return f"{value:.2g}"
    return f"{value:,.{3 if abs(value) < 10 else 2 if abs(value) < 1000 else 0}f}"


def signed(value: float | None) -> str:
    """`figure` with its sign, a minus as wide as a plus."""
    shown = figure(value)
    return shown if value is None or math.isnan(value) else f"{'−' if value < 0 else '+'}{shown.lstrip('-')}"


def settings_shown(chosen: EvaluationSettings) -> dict[str, Any]:
    """The settings that decide the findings; a system prompt can hold anything, so it is left out."""
    hidden = ("system", "chat", "web", "show_text")
    return {name: value for name, value in settings.to_dict(chosen).items() if name not in hidden}


def encode(evaluation: Evaluation) -> bytes:
    """evaluation.json: all figures, intervals, checks and counts. It holds no message text."""
    found = evaluation.memorization
    content = {
        "passed": evaluation.passed,
        "verdict": evaluation.verdict,
        "summary": sentence(evaluation),
        "subject": evaluation.subject,
        "base": evaluation.base_name,
        "held_out": {
            "replies": evaluation.replies,
            "conversations": evaluation.conversations,
            "tokens": evaluation.tokens,
        },
        "metrics": [_metric(each) for each in evaluation.comparisons],
        "checks": [asdict(check) for check in evaluation.checks],
        "memorization": found
        and {
            "metrics": [_metric(each) for each in found.comparisons],
            "warnings": list(found.warnings),
            "leaks": [{"record": leak.record_id, "reason": leak.reason} for leak in found.leaks],
        },
        "generation": {
            "replies": len(evaluation.answered),
            "tokens_per_s": round(evaluation.tokens_per_s, 2),
            "first_token_s": round(evaluation.first_token_s, 3),
        },
        "unchecked": list(evaluation.unchecked),
        "seconds": round(evaluation.seconds, 1),
        "settings": settings_shown(evaluation.settings),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _metric(comparison: Comparison) -> dict[str, Any]:
    interval = comparison.interval
    return {
        "name": comparison.metric,
        "base": _finite(comparison.base),
        "tuned": _finite(comparison.tuned),
        "difference": _finite(comparison.difference),
        "interval": interval and [_finite(interval.low), _finite(interval.high)],
        "better": comparison.better,
        "meaning": comparison.meaning,
    }


def _finite(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
