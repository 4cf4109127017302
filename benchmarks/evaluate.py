#!/usr/bin/env python3
"""Ranks true replies among ten, with each context computed once and with each pair scored by itself, in alternation.

usage: python benchmarks/evaluate.py --test-file data/processed/test.jsonl [--json FILE]   the starter, 4-bit, bare
       python benchmarks/evaluate.py --test-file FILE --adapter models/tinyllama-finetuned with an adapter on its base
       python benchmarks/evaluate.py --test-file FILE --quick                              does it run at all?

A round scores the replies of a few conversations, the same ones both ways, and every round takes other conversations.
Both ways score the same pairs of context and reply; the separate one is the forward pass of the training's own
evaluation, one pair a row without padding. Also reported: the largest difference in log p, in nats.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import base_models, console, libraries, records
from utils.console import UserError
from utils.saved_models import adapters

FORMS = ("shared", "separate")


class Round(msgspec.Struct, frozen=True):
    """Seconds of wall time for the same `pairs` pairs of `replies` true replies, and the largest difference in nats."""

    replies: int
    pairs: int
    shared_s: float
    separate_s: float
    difference_nats: float

    @property
    def ratio(self) -> float:
        return self.separate_s / self.shared_s


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    libraries.prepare()
    import torch

    from utils.evaluation.contexts import held_out_replies
    from utils.evaluation.settings import EvaluationSettings

    model, tokenizer = load(arguments)
    settings = EvaluationSettings(candidates=arguments.candidates, seed=arguments.seed)
    held_out = held_out_replies(records.read(arguments.test_file), tokenizer, settings)
    by_conversation: dict[str, list] = {}
    for reply in held_out:
        by_conversation.setdefault(reply.conversation, []).append(reply)
    drawn = list(by_conversation.values())
    wanted = arguments.rounds * arguments.conversations
    if len(drawn) < wanted:
        raise UserError(f"{arguments.test_file} has {len(drawn)} conversations and {wanted} are needed; lower --rounds")
    console.say(f"{torch.get_num_threads()} threads on {model.device}, {arguments.quantization} base")
    rounds = []
    for number in range(arguments.rounds):
        taken = drawn[number * arguments.conversations : (number + 1) * arguments.conversations]
        rounds.append(run_round(model, [reply for replies in taken for reply in replies], number))
        last = rounds[-1]
        console.say(
            f"round {number + 1}: {last.pairs} pairs, shared {last.shared_s:.1f} s, separate {last.separate_s:.1f} s,"
            f" {last.ratio:.1f} times as fast, difference {last.difference_nats:.1e} nats"
        )
    result = summary(rounds) | {"settings": vars(arguments), "machine": machine()}
    console.say(
        f"shared is {result['ratio']['median']:.2f} times as fast (from {result['ratio']['min']:.2f} to"
        f" {result['ratio']['max']:.2f}), at most {result['difference_nats']:.1e} nats apart"
    )
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result, enc_hook=str), indent=2) + b"\n")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-file", type=Path, default=Path("data/processed/test.jsonl"), help="held-out records")
    parser.add_argument("--base-model", default="starter", help="starter, a folder or a hub id")
    parser.add_argument("--adapter", type=Path, help="an adapter of that base model")
    parser.add_argument("--quantization", choices=("nf4", "int8", "none"), default="nf4")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--candidates", type=int, default=10, help="replies to rank, the true one included")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--conversations", type=int, default=2, help="conversations a round")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="one round of one conversation")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds = arguments.conversations = 1
    return arguments


def load(arguments: argparse.Namespace) -> tuple:
    base = base_models.locate(arguments.base_model)
    compute = base_models.choose_compute(arguments.quantization, arguments.device)
    if arguments.adapter:
        return adapters.load(adapters.verify(arguments.adapter), base, compute)
    return base_models.load_model(base, compute).eval(), base_models.load_tokenizer(base)


def run_round(model, replies: Sequence, number: int) -> Round:
    """Times both ways, which of them goes first alternating."""
    from utils.evaluation.shared_prefix import Pair, score_pairs

    pairs = [Pair(each.context, reply) for each in replies for reply in (each.reply, *each.others)]
    forms = {
        "shared": lambda: [score.nll for score in score_pairs(model, pairs)],
        "separate": lambda: score_separately(model, pairs),
    }
    if number == 0:  # the first forward of each shape pays for what later ones find ready
        score_pairs(model, pairs[:2])
        score_separately(model, pairs[:2])
    order = FORMS if number % 2 == 0 else FORMS[::-1]
    timed = {name: measured(forms[name]) for name in order}
    (shared, shared_s), (separate, separate_s) = timed["shared"], timed["separate"]
    difference = max(abs(one - other) for one, other in zip(shared, separate, strict=True))
    return Round(len(replies), len(pairs), shared_s, separate_s, difference)


def score_separately(model, pairs: Sequence) -> list[float]:
    """One forward pass a pair, as training evaluates."""
    import torch

    from utils.likelihood import collate, token_nll
    from utils.prompts import Encoded

    found = []
    with torch.inference_mode():
        for pair in pairs:
            ids = pair.context + pair.reply
            row = collate([Encoded(ids, ((len(pair.context), len(ids)),))])
            found.append(token_nll(model, {name: each.to(model.device) for name, each in row.items()}).sum().item())
    return found


def measured(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    import torch

    started_s = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - started_s


def summary(rounds: Sequence[Round]) -> dict:
    ratios = [each.ratio for each in rounds]
    return {
        "rounds": rounds,
        "ratio": {"min": min(ratios), "median": median(ratios), "max": max(ratios)},
        "difference_nats": max(each.difference_nats for each in rounds),
    }


def machine() -> dict[str, object]:
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    console.run(main)
