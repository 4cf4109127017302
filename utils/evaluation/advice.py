"""How to go on: what follows from the findings."""

from __future__ import annotations

from utils import console
from utils.evaluation.results import Evaluation
from utils.records import ENOUGH_CONVERSATIONS

TALK = "Talk to it: "


def how_to_go_on(evaluation: Evaluation) -> list[str]:
    """One line each, the most urgent first."""
    failed = [check.name for check in evaluation.checks if not check.passed]
    lines = []
    if failed:
        lines.append(
            "A check failed: find the cause before you use it. Read its replies; too few steps, or a learning rate that"
            " is too high, show there."
        )
    lines += _after_the_verdict(evaluation)
    lines += _from_the_loss(evaluation)
    if evaluation.memorization and evaluation.memorization.warnings:
        lines.append(
            "It repeats training replies: don't give it away. Train for fewer EPOCHS or with a lower LORA_RANK, or take"
            " the records out (prepare_training_data.py --forget ID) and train again."
        )
    elif evaluation.memorization is None and evaluation.base_name:
        lines.append("Before you give it to anybody, test what it repeats: run this without --quick, with train.jsonl.")
    return lines


def _after_the_verdict(evaluation: Evaluation) -> list[str]:
    if evaluation.verdict == "helped" and evaluation.passed:
        return [
            f"{TALK}{console.python()} test_model_loading.py --adapter {console.typed(evaluation.subject)} --chat",
            "Read the replies below and judge for yourself: the figures measure likelihood, not charm.",
        ]
    if evaluation.verdict == "hurt":
        return [
            "Lower LEARNING_RATE (by three to ten times), or train for fewer EPOCHS.",
            "Read some lines of train.jsonl: replies that are paired with the wrong messages teach the wrong thing."
            " A higher MIN_CONFIDENCE leaves the doubtful ones out.",
        ]
    if evaluation.verdict == "too little to tell":
        return [
            f"{evaluation.conversations} conversations were tested, and {ENOUGH_CONVERSATIONS} it takes: train again"
            " with the --test-share that prepare_training_data.py names, or bring more history.",
            "Until then, read the replies below; the differences above are a hint, no proof.",
        ]
    if evaluation.verdict == "no evidence":
        return [
            "Train longer (EPOCHS, --max-steps), with a higher LEARNING_RATE, or on more history.",
            "Or test on more: a higher --test-share in prepare_training_data.py narrows the intervals.",
        ]
    if evaluation.verdict == "helped":
        return []
    return ["To see what a training changed, name the model that it started from with --base-model."]


def _from_the_loss(evaluation: Evaluation) -> list[str]:
    curve = evaluation.curve
    if curve is None:
        return []
    if curve.rose_again:
        return ["The validation loss rose again towards the end: it began to overfit. Fewer EPOCHS would have done."]
    if curve.still_falling:
        return ["The validation loss was still falling at the end: more EPOCHS would probably help."]
    return []
