"""Test a model: is it safe to load, does it answer, did training help, does it leak?

    python test_model_loading.py                                   the adapter of train_tinyllama.py
    python test_model_loading.py --adapter models/finetuned        another one, or a merged model, or a base
    python test_model_loading.py --quick                           an answer within a minute
    python test_model_loading.py --chat                            talk to it; --web for a page in the browser

Verifies everything before loading it, compares it with its base on held-out conversations, lets both answer some of
them, looks for training replies that it repeats, and writes evaluation.json and evaluation.html into its folder.

Exits with 1 when a check fails or when the training hurt. "No evidence" and "too little to tell" are no failures: they
exit with 0, as leaks do, which are warned of.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from utils import console, libraries, records, settings
from utils.evaluation.results import Answered, Evaluation
from utils.evaluation.settings import EvaluationSettings, shortened

__test__ = False  # a script, whatever pytest makes of its name

ADAPTER = "models/tinyllama-finetuned"
TEST_FILE = None  # held-out records; none takes those of the data that it was trained on

RECORDS = 100  # held-out replies scored, one of each conversation first
PROMPTS = 50  # held-out messages answered by both models
TRAINING_RECORDS = 150  # training replies that the leak test looks at
TEMPERATURE = 0.7
MAX_NEW_TOKENS = 64


def main(argv: list[str] | None = None) -> None:
    chosen = settings.resolve(EvaluationSettings, globals(), argv)
    wanted = shortened(chosen.values) if chosen.values.quick else chosen.values
    settings.show(chosen)

    libraries.prepare()
    from utils.evaluation import page, report, scope, subjects, summary

    wanted = scope.with_held_out(wanted)
    console.say(f"held-out records: {wanted.test_file}")
    if wanted.chat or wanted.web:
        from utils.evaluation import chat, web

        tested = subjects.load(wanted.adapter, wanted.base_model, wanted.quantization, wanted.device)
        wanted = scope.within_positions(wanted, tested.model)
        (chat if wanted.chat else web).run(tested, wanted)
        return

    folder = scope.output_folder(wanted)
    evaluation = evaluate(wanted)
    records.write_atomically(folder / "evaluation.json", report.encode(evaluation))
    records.write_atomically(folder / "evaluation.html", page.render(evaluation))
    summary.show_examples(evaluation.answered)
    summary.show(evaluation, folder / "evaluation.html")
    if not evaluation.passed:
        sys.exit(1)


def evaluate(wanted: EvaluationSettings) -> Evaluation:
    """Verifies, loads, measures and compares."""
    from utils.evaluation import (
        answer_checks,
        canaries,
        comparisons,
        contexts,
        generated,
        generation,
        memorization,
        scope,
        subjects,
        training_curve,
        verdict,
    )

    started_s = time.perf_counter()
    held_out = records.read(wanted.test_file)
    training = scope.training_replies(wanted)
    planted = canaries.read(wanted.canaries) if wanted.canaries else ()
    tested = subjects.load(wanted.adapter, wanted.base_model, wanted.quantization, wanted.device)
    wanted = scope.within_positions(wanted, tested.model)

    # Does it answer, and how likely does it find the true replies? Each model does the same.
    sample = scope.spread(held_out, wanted.records, wanted.seed)
    scored = contexts.held_out_replies(sample, tested.tokenizer, wanted)
    asked = sample[: wanted.prompts]
    with tested.tuned() as model:
        tuned = comparisons.measure(model, scored, "tuned model")
        replies = generation.answer_all(model, tested.tokenizer, asked, wanted, "tuned model")
        batch_sizes = answer_checks.same_at_any_batch_size(model, tested.tokenizer, asked, wanted)
    base, base_replies = None, [None] * len(asked)
    if tested.has_base:
        with tested.base() as model:
            base = comparisons.measure(model, scored, "base model")
            base_replies = generation.answer_all(model, tested.tokenizer, asked, wanted, "base model")

    # Did training help?
    answered = tuple(map(Answered, asked, base_replies, replies))
    likelihoods = comparisons.compare(tuned, base, wanted.seed)
    conversations = len({reply.conversation for reply in scored})

    # Does it leak?
    leaks = memorization.measure(tested, training.records, held_out, wanted, planted) if training.records else None

    return Evaluation(
        subject=tested.name,
        base_name=tested.base_name,
        verdict=verdict.verdict(likelihoods, conversations),
        replies=len(scored),
        conversations=conversations,
        tokens=sum(len(reply.reply) for reply in scored),
        comparisons=(*likelihoods, *generated.compare_replies(answered, wanted.seed)),
        checks=tuple(answer_checks.check(replies, batch_sizes, tested.tokenizer, base_replies if base else ())),
        memorization=leaks,
        answered=answered,
        curve=training_curve.read(Path(wanted.adapter)),
        unchecked=(
            *tested.unchecked,
            *training.unchecked,
            *scope.left_out(len(held_out), len(scored), len(asked), wanted),
        ),
        tokens_per_s=batch_sizes.tokens_per_second,
        first_token_s=batch_sizes.first_token_seconds,
        seconds=time.perf_counter() - started_s,
        settings=wanted,
    )


if __name__ == "__main__":
    console.run(main)
