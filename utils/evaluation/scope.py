"""What an evaluation looks at, where its findings go, and what it leaves out."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from utils import console, records
from utils.console import UserError
from utils.evaluation.settings import EvaluationSettings
from utils.likelihood import position_limit
from utils.records import Record
from utils.saved_models import manifests

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STYLE_MESSAGES = 50  # fewer say nothing about how somebody writes
SHORTEST_PROMPT = 32  # tokens
ELSEWHERE = Path("models/evaluations")  # for the findings about a model that is no folder


@dataclass(frozen=True)
class TrainingReplies:
    """What the leak test looks at; empty when there is none to be had. `unchecked` says why, or what is doubtful."""

    records: tuple[Record, ...]
    unchecked: tuple[str, ...]


def within_positions(settings: EvaluationSettings, model: PreTrainedModel) -> EvaluationSettings:
    """The same evaluation with prompts that leave room for a reply among the model's positions, be it one that the
    model writes or one of another conversation.

    Raises UserError when there are too few positions for a prompt.
    """
    limit = position_limit(model)
    if limit is None:
        return settings
    room = min(settings.max_length_tokens, limit // 2, limit - settings.max_new_tokens)
    if room < SHORTEST_PROMPT:
        raise UserError(f"the model has positions for {limit} tokens: too few; lower --max-new-tokens")
    if room < settings.max_length_tokens:
        console.warn(f"the model has positions for {limit} tokens: prompts are shortened to {room}")
    return replace(settings, max_length_tokens=room)


def with_held_out(settings: EvaluationSettings) -> EvaluationSettings:
    """The same evaluation with a file of held-out records: unless one is named, that of the model's own training."""
    return replace(
        settings, test_file=settings.test_file or manifests.held_out_file(Path(settings.adapter).expanduser())
    )


def output_folder(settings: EvaluationSettings) -> Path:
    """Where evaluation.json and evaluation.html go. Raises UserError when nothing can be written there."""
    target = Path(settings.adapter).expanduser()
    folder = settings.output_dir or (target if target.is_dir() else ELSEWHERE / settings.adapter.replace("/", "--"))
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"can't write to {nearest}; name another folder with --output-dir")
    return folder


def spread(held_out: Sequence[Record], count: int, seed: int) -> list[Record]:
    """Up to `count` records in drawn order: one of each conversation, then a second one of each, and so on, because
    intervals narrow with the number of conversations. Records that don't name theirs are one each."""
    rng = random.Random(seed)
    conversations: dict[str, list[Record]] = {}
    for index, record in enumerate(held_out):
        conversations.setdefault(record.source.conversation or f"record {index}", []).append(record)
    drawn = [rng.sample(group, len(group)) for group in conversations.values()]
    rng.shuffle(drawn)
    rounds = (group[turn] for turn in range(max(map(len, drawn))) for group in drawn if turn < len(group))
    return [record for record, _ in zip(rounds, range(count), strict=False)]


def training_replies(settings: EvaluationSettings) -> TrainingReplies:
    """The records of `train_file`, or of the train.jsonl beside the held-out ones.

    Raises UserError when a file that was asked for is not there, or is not what prepare_training_data.py writes.
    """
    what = "whether it repeats its training data"
    if settings.quick or settings.training_records == 0:
        return TrainingReplies((), (f"{what}: --quick leaves that out" if settings.quick else f"{what}: left out",))
    path = settings.train_file or settings.test_file.with_name("train.jsonl")
    if settings.train_file is None and not path.exists():
        return TrainingReplies((), (f"{what}: there is no {path}; name it with --train-file",))
    found = tuple(records.read(path))
    manifest = manifests.read(Path(settings.adapter).expanduser())
    trained_on = manifest.fingerprints.training_data if manifest else None
    if trained_on is None:
        return TrainingReplies(found, (f"whether {path} is what it was trained on: nothing says so",))
    if trained_on != hashlib.sha256(path.read_bytes()).hexdigest():
        return TrainingReplies(found, (f"all that it was trained on: {path} has changed since, or is another",))
    return TrainingReplies(found, ())


def left_out(held_out: int, scored: int, asked: int, settings: EvaluationSettings) -> list[str]:
    """What was held out and yet not looked at, in words."""
    lines = []
    too_long = min(held_out, settings.records) - scored
    if too_long:
        lines.append(f"{too_long} held-out replies: longer than {settings.max_length_tokens} tokens with their message")
    if held_out > settings.records:
        lines.append(f"{held_out - settings.records:,} more held-out replies: --records {settings.records}")
    if asked < STYLE_MESSAGES:
        lines.append(f"style: it takes {STYLE_MESSAGES} answered messages, here are {asked}")
    return lines
