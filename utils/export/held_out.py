"""What an export is checked by: how likely it finds held-out replies, against the adapter on its base."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils import console, prompts
from utils.console import UserError
from utils.export.settings import ExportSettings
from utils.likelihood import collate, token_nll
from utils.prompts import Encoded
from utils.records import Record

# Nats per token by which an export may differ from the adapter on the unquantised base. Rounding moved single tokens by
# 0.006 (float16) and 0.056 (q8_0) nats, standard deviation over 275 tokens of real chat with the starter: these are
# about three standard errors of a mean over 30 tokens. Rows in a wrong order or a lost adapter cost tenths of a nat.
TOLERANCE_NATS = {"float16": 0.005, "f16": 0.005, "q8_0": 0.03}

HINTS = {"f16": "; float16 rounds small updates away, which --gguf-type q8_0 keeps on average"}
FORMS = {"float16": "float16 safetensors", "f16": "GGUF f16", "q8_0": "GGUF q8_0"}

# Above this many nats per token the change from the quantised base of the training is worth a warning: 2% perplexity.
BASE_CHANGE_NATS = 0.02


@dataclass(frozen=True)
class Measured:
    """Mean negative log-likelihoods in nats per supervised token of the same held-out replies.

    `as_trained` is the adapter on the base as it was quantised in training, None when it was not; `full_precision` the
    adapter on the unquantised base, or a full fine-tune; `exported` maps each file that was written and loaded again.
    """

    replies: int
    tokens: int
    as_trained: float | None
    full_precision: float
    exported: dict[str, float]


def sample(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, settings: ExportSettings) -> list[Encoded]:
    """The records to score, tokenised.

    Raises UserError when none fits into the length limit.
    """
    drawn = random.Random(settings.seed).sample(records, min(settings.records, len(records)))
    encoded = [prompts.encode_within(record, tokenizer, settings.max_length_tokens) for record in drawn]
    fitting = [each for each in encoded if each]
    if not fitting:
        raise UserError("no held-out record fits into the length limit; raise --max-length-tokens")
    return fitting


def mean_nll(model: PreTrainedModel, encoded: Sequence[Encoded], what: str) -> float:
    """Nats per supervised token."""
    total = 0.0
    with torch.inference_mode(), console.progress("replies") as bar:
        for record in bar.track(encoded, description=what):
            row = {name: tensor.to(model.device) for name, tensor in collate([record]).items()}
            total += token_nll(model, row).sum().item()
    return total / sum(record.supervised_tokens for record in encoded)


def check(form: str, exported: float, full_precision: float) -> None:
    """Raises UserError when an export is not the model that it was made from."""
    difference = abs(exported - full_precision)
    if not difference <= TOLERANCE_NATS[form]:  # a NaN must not pass
        raise UserError(
            f"the export as {FORMS[form]} is not the model that it was made from: {exported:.4f} nats a token on"
            f" held-out replies, {full_precision:.4f} before, and {TOLERANCE_NATS[form]} are allowed between them;"
            f" nothing was written{HINTS.get(form, '')}"
        )


def warn_of_base(measured: Measured, quantization: str) -> None:
    """Says so when the adapter does worse on the unquantised base than on the one that it learned to correct."""
    if measured.as_trained is None:
        return
    change = measured.full_precision - measured.as_trained
    if change > BASE_CHANGE_NATS:
        console.warn(
            f"the adapter was trained over a base in {quantization} and does worse on the full one: perplexity"
            f" {math.exp(measured.as_trained):.2f} there, {math.exp(measured.full_precision):.2f} here"
        )
