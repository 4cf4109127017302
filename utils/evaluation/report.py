"""What the test says: checks, perplexities, replies side by side; on the terminal and in evaluation.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from utils import console, records
from utils.evaluation.generation import Reply
from utils.evaluation.scoring import ReplyScore, mean_nll, perplexity
from utils.records import Record


@dataclass(frozen=True)
class Check:
    """One thing that must hold, in words, and whether it does."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Answered:
    """A held-out prompt with the true reply, the base's and the tuned model's."""

    record: Record
    base: Reply
    tuned: Reply


def check(base: Sequence[ReplyScore], tuned: Sequence[ReplyScore], answered: Sequence[Answered]) -> list[Check]:
    """The checks that decide the exit code."""
    replies = [each.tuned for each in answered]
    forged = [reply.text for reply in replies if "<|" in reply.text or "</s>" in reply.text]
    return [
        Check(
            "perplexity on held-out replies fell",
            perplexity(tuned) < perplexity(base),
            f"{perplexity(base):.2f} base, {perplexity(tuned):.2f} tuned",
        ),
        Check("no reply is empty", all(reply.text for reply in replies)),
        Check(
            "replies come to an end",
            any(reply.ended for reply in replies),
            f"{sum(reply.ended for reply in replies)} of {len(replies)} before the length limit",
        ),
        Check("no control tokens in a reply", not forged),
    ]


def write(
    path: Path,
    base: Sequence[ReplyScore],
    tuned: Sequence[ReplyScore],
    answered: Sequence[Answered],
    checks: Sequence[Check],
) -> None:
    """Writes evaluation.json. It holds no message text: replies are in the terminal alone."""
    report = {
        "passed": all(each.passed for each in checks),
        "checks": [asdict(each) for each in checks],
        "held_out_replies": len(base),
        "held_out_tokens": sum(score.tokens for score in base),
        "base": {"nll": mean_nll(base), "perplexity": perplexity(base)},
        "tuned": {"nll": mean_nll(tuned), "perplexity": perplexity(tuned)},
        "generation": {
            "replies": len(answered),
            "tokens_per_s": round(
                sum(each.tuned.tokens for each in answered) / max(sum(each.tuned.seconds for each in answered), 1e-9), 2
            ),
        },
    }
    records.write_atomically(path, json.dumps(report, indent=2).encode())


def show(answered: Sequence[Answered], checks: Sequence[Check]) -> None:
    console.heading("held-out messages, answered")
    for each in answered:
        console.say()
        asked = each.record.instruction.replace("\n", "\n           ")
        console.say(f"  message  {asked}")
        console.say(f"  true     {_indented(each.record.output)}")
        console.say(f"  base     {_indented(each.base.text)}")
        console.say(f"  tuned    {_indented(each.tuned.text)}")
    console.heading("checks")
    for each in checks:
        detail = f"  ({each.detail})" if each.detail else ""
        console.say(f"  {'ok  ' if each.passed else 'FAIL'}  {each.name}{detail}")


def _indented(text: str) -> str:
    return text.replace("\n", "\n           ") or "(nothing)"
