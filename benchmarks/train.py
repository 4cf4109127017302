#!/usr/bin/env python3
"""Trains the same records three ways, in alternation, and compares speed, memory and what was learned.

usage: python benchmarks/train.py --data-dir data/processed [--json FILE]       on the CPU, with the starter
       python benchmarks/train.py --data-dir data/processed --device cuda --base-model FOLDER --random-weights
       python benchmarks/train.py --data-dir data/processed --quick             does it run at all?

Against this project stand TRL's SFTTrainer with packing and the recipe of most tutorials, on the same 4-bit base with
the same LoRA; `training_recipes.py` says how each is set up, `training_measurement.py` how each is measured. Every
training is a process of its own. Needs `pip install -r benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_measurement import Dtype, Job, Measurement

from utils import base_models, console, libraries, prompts, records
from utils.console import UserError
from utils.prompts import Encoded
from utils.records import Record
from utils.training.sequences import fold
from utils.training.settings import TrainingSettings

NAMES = {"project": "this project", "trl": "TRL, packed", "common": "common recipe"}
PEERS = ("trl", "common")
TRIAL_RECORDS = 8
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")
MAX_LENGTH_TOKENS = TrainingSettings().max_length_tokens

Round = dict[str, Measurement]  # by recipe


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    libraries.prepare()
    train = some_conversations(records.read(arguments.data_dir / "train.jsonl"), arguments.records, arguments.seed)
    held_out = some_conversations(
        records.read(arguments.data_dir / "validation.jsonl"), arguments.held_out, arguments.seed
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        folder = Path(scratch)
        records.write(folder / "train.jsonl", train)
        records.write(folder / "held_out.jsonl", held_out)
        base_model = arguments.base_model
        if arguments.random_weights:
            base_model = str(with_random_weights(Path(base_model), folder / "base", arguments.seed))
        job = Job(
            recipe="project",
            train=folder / "train.jsonl",
            held_out=folder / "held_out.jsonl",
            base_model=base_model,
            device=arguments.device,
            dtype=None,
            epochs=arguments.epochs,
            seed=arguments.seed,
        )
        describe(arguments.data_dir, train, held_out, base_model)
        dtypes = fastest_dtypes(job, dtypes_to_try(job.device)[: 1 if arguments.quick else None])
        rounds = [run_round(job, dtypes, number, arguments.repeats) for number in range(arguments.repeats)]
    report(rounds)
    if arguments.json:
        result = summary(rounds) | {"settings": vars(arguments), "machine": machine(arguments.device)}
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result, enc_hook=str), indent=2) + b"\n")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data/processed"), help="train.jsonl and validation.jsonl"
    )
    parser.add_argument("--base-model", default="starter", help="starter, a folder or a hub id")
    parser.add_argument("--random-weights", action="store_true", help="the folder's config and tokenizer suffice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--records", type=int, default=64, help="training records, in whole conversations")
    parser.add_argument("--held-out", type=int, default=64, help="validation records, likewise")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="rounds; each trains every way once")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="16 records, one round, no trial of dtypes")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.records = arguments.held_out = 16
        arguments.repeats = 1
    return arguments


def some_conversations(found: Sequence[Record], count: int, seed: int) -> list[Record]:
    """`count` records or a few more, in whole conversations drawn by chance: single records would leave nothing to
    fold, and the longest conversations fold better than a person's others."""
    conversations: dict[str, list[Record]] = {}
    for number, record in enumerate(found):
        conversations.setdefault(record.source.conversation or str(number), []).append(record)
    drawn = list(conversations.values())
    random.Random(seed).shuffle(drawn)
    chosen: list[Record] = []
    for conversation in drawn:
        if len(chosen) >= count:
            break
        chosen += conversation
    return chosen


def with_random_weights(shape: Path, folder: Path, seed: int) -> Path:
    """A base model with the configuration and tokenizer in `shape`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(shape)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(shape).save_pretrained(folder)
    return folder


def fastest_dtypes(job: Job, candidates: Sequence[Dtype]) -> dict[str, Dtype | None]:
    """By recipe: the candidate in which it trains a few records fastest, without crashing, as SFTTrainer does in
    float16. The project chooses by itself."""
    chosen: dict[str, Dtype | None] = {"project": None}
    few = job.train.with_name("few.jsonl")
    records.write(few, records.read(job.train)[-TRIAL_RECORDS:])
    for peer in PEERS:
        seconds: dict[Dtype, float] = {}
        for dtype in candidates if len(candidates) > 1 else ():
            with contextlib.suppress(UserError):
                seconds[dtype] = run_process(replace(job, recipe=peer, train=few, held_out=few, dtype=dtype)).seconds
                console.say(f"trial  {NAMES[peer]} in {dtype}: {seconds[dtype]:.1f} s")
        chosen[peer] = min(seconds, key=seconds.__getitem__, default=candidates[0])
    return chosen


def dtypes_to_try(device: str) -> list[Dtype]:
    import torch

    if device == "cuda":
        return ["bfloat16"] if torch.cuda.get_device_capability()[0] >= 8 else ["float16", "float32"]
    return ["bfloat16", "float32"] if base_models.cpu_multiplies_bfloat16() else ["float32"]


def describe(data_dir: Path, train: Sequence[Record], held_out: Sequence[Record], base_model: str) -> None:
    """Says what is trained, and whether the sample folds as well as all of the records do."""
    tokenizer = base_models.load_tokenizer(base_models.locate(base_model))

    def tokens(sequences: Iterable[Encoded]) -> int:
        return sum(len(sequence.input_ids) for sequence in sequences)

    def folding(found: Iterable[Record]) -> float:
        encoded = [prompts.encode_within(record, tokenizer, MAX_LENGTH_TOKENS) for record in found]
        fitting = [one for one in encoded if one]
        return tokens(fitting) / tokens(fold(fitting))

    everything = records.read(data_dir / "train.jsonl")
    console.say(
        f"{len(train)} training records, {len(held_out)} held-out ones; folding saves {folding(train):.2f} times the"
        f" tokens here, {folding(everything):.2f} times over all {len(everything):,} training records"
    )


def run_round(job: Job, dtypes: dict[str, Dtype | None], number: int, rounds: int) -> Round:
    """Trains every way once. Another way begins each round, so that a machine that slows down favours none."""
    order = [*NAMES][number % len(NAMES) :] + [*NAMES][: number % len(NAMES)]
    measured = {}
    for recipe in order:
        result = measured[recipe] = run_process(replace(job, recipe=recipe, dtype=dtypes[recipe]))
        console.say(
            f"round {number + 1} of {rounds}  {NAMES[recipe]:<14} {result.supervised_tokens_per_s:8.2f} supervised"
            f" tokens/s  {result.seconds:7.1f} s  {result.peak_memory_mib:6,.0f} MiB  NLL {result.held_out_nll:.4f}"
        )
    return measured


def run_process(job: Job) -> Measurement:
    """Raises UserError when the training fails; its own message stands on stderr."""
    script = Path(__file__).with_name("training_measurement.py")
    job_file, result_file = job.train.with_name("job.json"), job.train.with_name("result.json")
    job_file.write_bytes(msgspec.json.encode(job, enc_hook=str))
    environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, script, job_file, result_file], stdout=subprocess.DEVNULL, env=environment)
    if done.returncode:
        raise UserError(f"{NAMES[job.recipe]} ended with exit code {done.returncode}")
    return msgspec.json.decode(result_file.read_bytes(), type=Measurement)


def pairs(rounds: Sequence[Round], peer: str, figure: Callable[[Measurement], float]) -> list[float]:
    """The project's figure over the peer's, round by round."""
    return [figure(measured["project"]) / figure(measured[peer]) for measured in rounds]


def report(rounds: Sequence[Round]) -> None:
    console.heading(f"medians, rounds: {len(rounds)}; supervised: reply tokens with a loss")
    columns = ("", "dtype", "supervised/s", "tokens/s", "steps", "peak MiB", "held-out NLL", "of matmul")
    rows = [_medians([measured[recipe] for measured in rounds]) for recipe in NAMES]
    console.table(columns, rows, numeric=range(2, len(columns)))
    base = median(measured["project"].held_out_nll_before for measured in rounds)
    console.say(f"held-out NLL of the base, untrained: {base:.4f} nats a reply token")

    console.heading("this project against the others, pair by pair")
    rows = []
    for peer in PEERS:
        faster = pairs(rounds, peer, lambda one: one.supervised_tokens_per_s)
        memory = median(pairs(rounds, peer, lambda one: one.peak_memory_mib))
        nll = median(pairs(rounds, peer, lambda one: one.held_out_nll))
        spread = (f"{figure:.2f}" for figure in (min(faster), median(faster), max(faster)))
        rows.append((NAMES[peer], *spread, f"{memory:.2f} times", f"{nll - 1:+.2%}"))
    columns = ("times as fast as", "minimum", "median", "maximum", "memory", "held-out NLL")
    console.table(columns, rows, numeric=range(1, len(columns)))


def _medians(measured: Sequence[Measurement]) -> tuple[str, ...]:
    first = measured[0]
    return (
        NAMES[first.recipe],
        first.dtype,
        f"{median(one.supervised_tokens_per_s for one in measured):.2f}",
        f"{median(one.tokens_per_s for one in measured):.0f}",
        str(first.optimizer_steps),
        f"{median(one.peak_memory_mib for one in measured):,.0f}",
        f"{median(one.held_out_nll for one in measured):.4f}",
        f"{median(one.matmul_share for one in measured):.1%}",
    )


def summary(rounds: Sequence[Round]) -> dict[str, object]:
    """`ratios` of supervised tokens a second are the medians of `pairs`; every Measurement stands in `rounds`."""
    faster = {peer: pairs(rounds, peer, lambda one: one.supervised_tokens_per_s) for peer in PEERS}
    return {
        "ratios": {peer: median(found) for peer, found in faster.items()},
        "pairs": faster,
        "memory_ratios": {peer: median(pairs(rounds, peer, lambda one: one.peak_memory_mib)) for peer in PEERS},
        "nll_ratios": {peer: median(pairs(rounds, peer, lambda one: one.held_out_nll)) for peer in PEERS},
        "rounds": rounds,
    }


def machine(device: str) -> dict[str, object]:
    """What the figures were measured with."""
    import torch

    if device == "cuda":
        processor = torch.cuda.get_device_name()
    else:
        processor = str(torch.cpu.get_capabilities().get("cpu_name", platform.processor()))
    return {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    console.run(main)
