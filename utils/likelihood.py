"""How likely a model finds the supervised tokens: the one forward pass that training and evaluation share.

B is 1 here, T the tokens of a row, S its supervised tokens, V the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from utils.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all that came before, so that sequences of a row may share what they begin with.

    A sliding window counts positions back from a token; behind a shared prefix it would count the wrong ones.
    """
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ()
    return (
        all(kind == "full_attention" for kind in kinds)
        and not getattr(config, "sliding_window", None)
        and not getattr(config, "attn_logit_softcapping", None)
    )


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether the model lets its caller say where in a sequence a token stands. Some swallow `position_ids` unread."""
    return _reads(model, "position_ids")


def position_limit(model: PreTrainedModel) -> int | None:
    """How many tokens a sequence may have, as the model's configuration says; None where it says nothing."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if limit and limit > 0 else None  # XLNet says -1


def _reads(model: torch.nn.Module, argument: str) -> bool:
    bare = getattr(model, "module", model)  # out of what distributes it,
    bare = bare.get_base_model() if hasattr(bare, "get_base_model") else bare  # and out of its adapter
    return argument in inspect.signature(type(bare).forward).parameters


def prefix_tokens(sequences: Sequence[Encoded]) -> int:
    """How many tokens all sequences begin with alike: the system prompt at least, where they have the same one. The
    position that predicts a reply's first token is never among them. 0 for a single sequence, which shares nothing."""
    if len(sequences) < 2:
        return 0
    first, last = (choose(sequence.input_ids for sequence in sequences) for choose in (min, max))
    alike = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return max(0, min(alike, *(sequence.replies[0][0] - 1 for sequence in sequences)))


def collate(
    sequences: Sequence[Encoded], *, share_prefix: bool = False, row_multiple: int = 1, scored_multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Lays sequences end to end in one row.

    `input_ids` and `position_ids` (1, T): positions restart with each sequence, from which transformers builds a mask
    that lets no sequence see another. `scored` (S,): the positions whose next token is supervised. `targets` (S,).

    With `share_prefix`, what all sequences begin with alike stands once, at the start of the row; positions restart
    behind it, and `attention_mask` (1, 1, T, T), True where a token is seen, lets each sequence see it. Only for a
    model that `shares_prefixes`.

    `row_multiple` fills T up to a multiple, with a sequence of its own in which nothing is scored; `scored_multiple`
    does so with `scored`, which `token_nll` then cuts to its targets. The result is the same, from fewer shapes.
    """
    prefix = prefix_tokens(sequences) if share_prefix else 0
    ids = list(sequences[0].input_ids[:prefix])
    positions = list(range(prefix))
    lengths: list[int] = []  # of what each sequence has to itself
    scored: list[int] = []
    targets: list[int] = []
    for sequence in sequences:
        offset = len(ids) - prefix
        ids += sequence.input_ids[prefix:]
        positions += range(prefix, len(sequence.input_ids))
        lengths.append(len(sequence.input_ids) - prefix)
        for start, end in sequence.replies:
            scored += range(offset + start - 1, offset + end - 1)
            targets += sequence.input_ids[start:end]
    filler = -len(ids) % row_multiple
    ids += ids[-1:] * filler
    positions += range(filler)
    scored += scored[-1:] * (-len(scored) % scored_multiple)
    row = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "scored": torch.tensor(scored),
        "targets": torch.tensor(targets),
    }
    return row | {"attention_mask": _prefix_mask(prefix, [*lengths, filler])} if prefix else row


def _prefix_mask(prefix: int, lengths: Sequence[int]) -> torch.Tensor:
    """(1, 1, T, T): every token sees the prefix and, of its own sequence, what is not after it."""
    owner = torch.repeat_interleave(torch.arange(1 + len(lengths)), torch.tensor([prefix, *lengths]))  # (T,)
    seen = (owner[:, None] == owner) | (owner == 0)
    return seen.tril_()[None, None]


def token_nll(model: torch.nn.Module, row: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihoods (S,) in nats of the supervised tokens; the head runs on no other position."""
    logits = model(
        input_ids=row["input_ids"],
        position_ids=row["position_ids"],
        attention_mask=row.get("attention_mask"),
        logits_to_keep=row["scored"],
        use_cache=False,
    ).logits[0]
    if not _reads(model, "logits_to_keep"):  # the head ran on all positions
        logits = logits[row["scored"]]
    logits = logits[: len(row["targets"])]  # (S, V)
    return functional.cross_entropy(logits.float(), row["targets"], reduction="none")
