"""Test an adapter: is it safe to load, does it answer, and did training help?

    python test_model_loading.py                                   the adapter of train_tinyllama.py
    python test_model_loading.py --adapter models/finetuned        another one

Verifies the adapter before loading it, compares base and tuned model on held-out conversations, lets both answer a few
of them, writes evaluation.json into the adapter's folder, and exits with 1 when a check fails.
"""

import random
import sys

from utils import base_models, console, prompts, records, settings
from utils.evaluation.settings import EvaluationSettings

__test__ = False  # a script, whatever pytest makes of its name

ADAPTER = "models/tinyllama-finetuned"
TEST_FILE = "data/processed/test.jsonl"

RECORDS = 200  # held-out replies scored
PROMPTS = 3  # held-out messages answered by both models
TEMPERATURE = 0.7
MAX_NEW_TOKENS = 64


def main(argv: list[str] | None = None) -> None:
    chosen = settings.resolve(EvaluationSettings, globals(), argv)
    wanted = chosen.values
    settings.show(chosen)

    console.quiet_libraries()
    from utils import adapters
    from utils.evaluation import generation, report, scoring

    held_out = records.read(wanted.test_file)
    adapter = adapters.verify(wanted.adapter)
    base = base_models.locate(wanted.base_model or adapter.base_model)
    compute = base_models.choose_compute(wanted.quantization or adapter.quantization, wanted.device)
    model, tokenizer = adapters.load(adapter, base, compute)

    sample = random.Random(wanted.seed).sample(held_out, min(wanted.records, len(held_out)))
    encoded = [prompts.encode_within(record, tokenizer, wanted.max_length_tokens) for record in sample]
    encoded = [each for each in encoded if each]
    tuned = scoring.score(model, encoded, "tuned model")
    with model.disable_adapter():
        base_scores = scoring.score(model, encoded, "base model")

    answered = []
    for record in sample[: wanted.prompts]:
        with model.disable_adapter():
            base_reply = generation.answer(model, tokenizer, record, wanted)
        answered.append(report.Answered(record, base_reply, generation.answer(model, tokenizer, record, wanted)))

    checks = report.check(base_scores, tuned, answered)
    report.show(answered, checks)
    report.write(wanted.adapter / "evaluation.json", base_scores, tuned, answered, checks)
    console.say(f"\nreport  {wanted.adapter / 'evaluation.json'}")
    if not all(check.passed for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    console.run(main)
