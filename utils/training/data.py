"""JSONL -> encoded records, through `datasets`."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from utils import console, prompts, records
from utils.console import UserError
from utils.prompts import Encoded
from utils.records import Record
from utils.training.sequences import fold

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RecordFiles:
    """The records of a data folder as read, before any tokenizer is known; `sha256` is that of train.jsonl."""

    train: list[Record]
    validation: list[Record]
    sha256: str


@dataclass(frozen=True)
class EncodedData:
    """What the trainer eats: folded sequences; and what the length limit did to the records."""

    train: list[Encoded]
    validation: list[Encoded]
    records: int  # training records
    unfolded_tokens: int  # of the training records, had each been a sequence of its own
    too_long: int  # records of both sets left out
    trimmed: int  # training records that lost history or input


def read(data_dir: Path) -> RecordFiles:
    """Reads train.jsonl and, where it is there, validation.jsonl.

    Raises UserError as `records.read` does.
    """
    train = data_dir / "train.jsonl"
    validation = data_dir / "validation.jsonl"
    found = records.read(train)
    return RecordFiles(
        train=found,
        validation=records.read(validation) if validation.exists() and validation.stat().st_size else [],
        sha256=hashlib.sha256(train.read_bytes()).hexdigest(),
    )


def encode(
    files: RecordFiles,
    tokenizer: PreTrainedTokenizerBase,
    max_length_tokens: int,
    evaluation_records: int,
) -> EncodedData:
    """Renders, masks, tokenises and folds the records; of the validation records, a sample that is always the same.

    Raises UserError when no training record fits `max_length_tokens`.
    """
    held_out = files.validation
    if len(held_out) > evaluation_records:
        held_out = random.Random(0).sample(held_out, evaluation_records)
    train, trimmed = _encode_all(files.train, tokenizer, max_length_tokens, "training records")
    validation, _ = _encode_all(held_out, tokenizer, max_length_tokens, "validation records")
    if not train:
        raise UserError(
            f"none of the {len(files.train)} training records fits into {max_length_tokens} tokens;"
            " raise --max-length-tokens"
        )
    too_long = len(files.train) + len(held_out) - len(train) - len(validation)
    if too_long:
        console.warn(f"records left out whose message and reply alone exceed {max_length_tokens} tokens: {too_long}")
    unfolded_tokens = sum(len(record.input_ids) for record in train)
    return EncodedData(fold(train), fold(validation), len(train), unfolded_tokens, too_long, trimmed)


def _encode_all(
    found: list[Record], tokenizer: PreTrainedTokenizerBase, max_length_tokens: int, what: str
) -> tuple[list[Encoded], int]:
    """The records that fit, and how many of them had to lose history or input for it."""
    if not found:
        return [], 0

    def encode_line(row: dict[str, str]) -> dict[str, object]:
        record = msgspec.json.decode(row["line"], type=Record)
        whole = prompts.encode(record, tokenizer)
        encoded = prompts.encode_within(record, tokenizer, max_length_tokens)
        return {
            "input_ids": list(encoded.input_ids) if encoded else [],
            "replies": encoded.replies if encoded else [],
            "trimmed": encoded is not None and encoded != whole,
        }

    lines = _dataset([records.encode(record).decode() for record in found])
    rows = lines.map(encode_line, remove_columns=["line"], desc=f"encoding {what}", load_from_cache_file=False)
    kept = [row for row in rows if row["input_ids"]]
    encoded = [Encoded(tuple(row["input_ids"]), tuple((start, end) for start, end in row["replies"])) for row in kept]
    return encoded, sum(row["trimmed"] for row in kept)


def _dataset(lines: list[str]) -> Dataset:
    import datasets

    datasets.utils.logging.set_verbosity_error()
    if not console.err.is_terminal:
        datasets.disable_progress_bars()
    return datasets.Dataset.from_dict({"line": lines})
