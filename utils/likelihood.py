"""How likely a model finds the supervised tokens: the one forward pass that training and evaluation share.

B is 1 here, T the tokens of a row, S its supervised tokens, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from utils.prompts import Encoded


def collate(sequences: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Lays sequences end to end in one row without padding.

    `input_ids` and `position_ids` (1, T): positions restart with each sequence, from which transformers builds a mask
    that lets no sequence see another. `scored` (S,): the positions whose next token is supervised. `targets` (S,).
    """
    ids: list[int] = []
    positions: list[int] = []
    scored: list[int] = []
    targets: list[int] = []
    for sequence in sequences:
        offset = len(ids)
        ids += sequence.input_ids
        positions += range(len(sequence.input_ids))
        for start, end in sequence.replies:
            scored += range(offset + start - 1, offset + end - 1)
            targets += sequence.input_ids[start:end]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "scored": torch.tensor(scored),
        "targets": torch.tensor(targets),
    }


def token_nll(model: torch.nn.Module, row: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihoods (S,) in nats of the supervised tokens; the head runs on no other position."""
    logits = model(
        input_ids=row["input_ids"],
        position_ids=row["position_ids"],
        logits_to_keep=row["scored"],
        use_cache=False,
    ).logits[0]  # (S, V)
    return functional.cross_entropy(logits.float(), row["targets"], reduction="none")
