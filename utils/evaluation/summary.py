"""The terminal's view of an evaluation: a few replies, then a summary that fits a screen of 24 lines and 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from utils import console
from utils.evaluation import advice, plots, report
from utils.evaluation.results import Answered, Comparison, Evaluation

COLUMNS = 80
METRICS_SHOWN = (
    "perplexity",
    "context gain",
    "hits@1",
    "MRR",
    "hits@1 by PMI",
    "repetition (rep-4)",
    "variety (distinct-2)",
    "style",
    "length ratio",
    "chrF",
)
WARNINGS_SHOWN = 3
EXAMPLES_SHOWN = 3
IN_WORDS = {"good": "better", "bad": "worse", "open": ""}


def show_examples(answered: Sequence[Answered]) -> None:
    """A few held-out messages with the true reply, the base's and the tuned model's, one line each."""
    console.heading("held-out messages, answered")
    for each in answered[:EXAMPLES_SHOWN]:
        console.say()
        console.say(one_line(f"  message  {each.record.instruction}"))
        console.say(one_line(f"  true     {each.record.output}"))
        if each.base is not None:
            console.say(one_line(f"  base     {each.base.text or '(nothing)'}"))
        console.say(one_line(f"  {'tuned' if each.base else 'model'}    {each.tuned.text or '(nothing)'}"))


def show(evaluation: Evaluation, page: Path) -> None:
    """The verdict first, where the page is last."""
    console.heading(wrapped(report.sentence(evaluation)))
    console.say(one_line(report.measured_on(evaluation)))
    console.say()
    shown = [each for each in evaluation.comparisons if each.metric in METRICS_SHOWN]
    for line in _table(shown, compared=evaluation.base_name is not None):
        console.say(one_line(line))
    passed = sum(check.passed for check in evaluation.checks)
    console.say(f"checks  {passed} of {len(evaluation.checks)} passed")
    for warning in report.warnings(evaluation)[:WARNINGS_SHOWN]:
        console.say(one_line(f"  !     {warning}"))
    console.say(one_line(f"leaks   {_leaks(evaluation)}"))
    if evaluation.unchecked:
        console.say(f"not checked: {len(evaluation.unchecked)}, listed on the page")
    for line in advice.how_to_go_on(evaluation)[:1]:
        command = line.removeprefix(advice.TALK)
        if command != line:  # in one piece: a line break within would run what stands before it
            console.say(f"next    {advice.TALK.strip()}\n        {_flat(command)}")
        else:
            console.say(wrapped(f"next    {line}"))
    console.say(f"page    {page}")


def one_line(text: str) -> str:
    """The text without line breaks and without what steers a terminal, cut at the width of a screen."""
    flat = _flat(text)
    return flat if len(flat) <= COLUMNS else f"{flat[: COLUMNS - 1]}…"


def wrapped(text: str) -> str:
    """The text over at most two lines of a screen."""
    return textwrap.fill(_flat(text), COLUMNS, subsequent_indent=" " * 8, max_lines=2, placeholder=" …")


def _flat(text: str) -> str:
    return console.harmless(re.sub(r"\s*\n\s*", " / ", text.rstrip()).replace("\t", " "))


def _table(comparisons: Sequence[Comparison], *, compared: bool) -> list[str]:
    if not compared:
        return [f"{each.metric:<32} {report.figure(each.tuned):>9}" for each in comparisons]
    lines = [f"{'':<22} {'base':>8} {'tuned':>8} {'difference':>10}  95% interval"]
    for each in comparisons:
        found = each.interval
        between = f"{report.signed(found.low)} to {report.signed(found.high)}" if found else ""
        lines.append(
            f"{each.metric[:22]:<22} {report.figure(each.base):>8} {report.figure(each.tuned):>8}"
            f" {report.signed(each.difference):>10}  {between:<20} {IN_WORDS[plots.judged(each)]}".rstrip()
        )
    return lines


def _leaks(evaluation: Evaluation) -> str:
    found = evaluation.memorization
    if found is None:
        return "not tested"
    if found.warnings:
        return f"see above; {len(found.leaks)} of its training replies are listed on the page"
    return "nothing found that it repeats more than it should"
