"""How likely a model finds the supervised tokens: the one forward pass that training and evaluation share.

B is 1 here, T the tokens of a row, S its supervised tokens, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from utils.prompts import Encoded


def collate(
    sequences: Sequence[Encoded], *, row_multiple: int = 1, scored_multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Lays sequences end to end in one row.

    `input_ids` and `position_ids` (1, T): positions restart with each sequence, from which transformers builds a mask
    that lets no sequence see another. `scored` (S,): the positions whose next token is supervised. `targets` (S,).

    `row_multiple` fills T up to a multiple, with a sequence of its own in which nothing is scored; `scored_multiple`
    does so with `scored`, which `token_nll` then cuts to its targets. The result is the same, from fewer shapes.
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
    filler = -len(ids) % row_multiple
    ids += ids[-1:] * filler
    positions += range(filler)
    scored += scored[-1:] * (-len(scored) % scored_multiple)
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
    ).logits[0, : len(row["targets"])]  # (S, V)
    return functional.cross_entropy(logits.float(), row["targets"], reduction="none")
