"""Token-weighted likelihood of the true replies, by the base and by the tuned model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel

from utils import console
from utils.console import UserError
from utils.likelihood import collate, token_nll
from utils.prompts import Encoded


@dataclass(frozen=True)
class ReplyScore:
    """One reply: `nll` in nats, summed over its `tokens` supervised tokens (the end-of-turn token is one)."""

    nll: float
    tokens: int


def score(model: PeftModel, encoded: Sequence[Encoded], what: str) -> list[ReplyScore]:
    """Scores each record's reply given its prompt.

    Raises UserError when there is none to score.
    """
    if not encoded:
        raise UserError("no held-out record fits into the length limit; raise --max-length-tokens")
    scores = []
    with torch.inference_mode(), console.progress("replies") as bar:
        for record in bar.track(encoded, description=what):
            row = {name: tensor.to(model.device) for name, tensor in collate([record]).items()}
            scores.append(ReplyScore(token_nll(model, row).sum().item(), record.supervised_tokens))
    return scores


def mean_nll(scores: Sequence[ReplyScore]) -> float:
    """Nats per token: the sum of all NLL over the sum of all tokens."""
    return sum(score.nll for score in scores) / sum(score.tokens for score in scores)


def perplexity(scores: Sequence[ReplyScore]) -> float:
    return math.exp(mean_nll(scores))
