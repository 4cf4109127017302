"""Scores many replies under many contexts, with each context computed once.

The contexts of a conversation are prefixes of its longest one. That one runs through the model first and leaves its
keys and values in a cache; every reply is then a branch that hangs off a prefix of it. Branches lie side by side in one
row: position ids go on from the prefix, and the attention mask lets a branch see its prefix and itself, nothing else.
What the next conversation begins with alike, the system prompt at least, stays in the cache.

A model that can't branch (`_branches`) scores each pair by itself.

Q is the number of tokens of a row, K that of cache and row together, S that of the predicted ones, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from utils.likelihood import takes_positions

ROW_TOKENS = 512


@dataclass(frozen=True)
class Pair:
    """A reply that might follow a context, as token ids. The context ends with the generation prompt, the reply with
    the end-of-turn token."""

    context: tuple[int, ...]
    reply: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """How a model takes a pair. `nll` is the negative log-likelihood of the reply given the context, in nats, summed
    over its tokens. `verbatim` says that every token but the last, the end-of-turn token, is the likeliest one."""

    nll: float
    verbatim: bool


def score_pairs(
    model: torch.nn.Module, pairs: Sequence[Pair], scored: Callable[[int], object] = lambda count: None
) -> list[Score]:
    """Scores each pair's reply given its context.

    Equal pairs are computed once. `scored` hears how many distinct pairs have just been done.
    """
    scores: dict[Pair, Score] = {}
    if not _branches(model, max((len(pair.context) + len(pair.reply) for pair in pairs), default=0)):
        for pair in dict.fromkeys(pairs):
            scores[pair] = _score_alone(model, pair)
            scored(1)
        return [scores[pair] for pair in pairs]
    cache, cached = DynamicCache(), ()  # without the model's config: sliding layers keep all of the prefix as well
    with torch.inference_mode():
        for trunk, branches in _trunks(pairs):
            _extend(model, cache, cached, trunk[:-1])
            cached = trunk[:-1]
            for row in _rows(branches):
                scores |= zip(row, _score_row(model, cache, len(cached), row), strict=True)
                scored(len(row))
    return [scores[pair] for pair in pairs]


def _branches(model: torch.nn.Module, longest: int) -> bool:
    """Whether pairs of up to `longest` tokens can share their contexts.

    Not where a layer keeps more than keys and values, such as the state of linear attention, which runs on; not where
    nobody can say where a branch's tokens stand; not where the attention window is shorter, since a branch would see
    more of its prefix than the model can; and not under eager attention, which adds a mask instead of obeying it.
    """
    config = model.config
    window = getattr(config, "sliding_window", None)
    if (window and longest > window) or config._attn_implementation == "eager":
        return False
    if getattr(config, "alibi", False) or not takes_positions(model):
        return False
    layers = DynamicCache(config=config).layers
    return all(type(each) in (DynamicLayer, DynamicSlidingWindowLayer) for each in layers)


def _score_alone(model: torch.nn.Module, pair: Pair) -> Score:
    ids = torch.tensor([pair.context + pair.reply[:-1]], device=_device(model))
    with torch.inference_mode():
        kept = model(input_ids=ids, use_cache=False, logits_to_keep=len(pair.reply)).logits[0, -len(pair.reply) :]
    return _scores(kept, [pair])[0]


def _trunks(pairs: Sequence[Pair]) -> Iterator[tuple[tuple[int, ...], list[Pair]]]:
    """The longest contexts, each with the distinct pairs whose context is a prefix of it."""
    branches: list[Pair] = []
    for pair in sorted(
        set(pairs), key=lambda pair: (pair.context, pair.reply)
    ):  # a prefix sorts before what extends it
        if branches and pair.context[: len(branches[-1].context)] != branches[-1].context:
            yield branches[-1].context, branches
            branches = []
        branches.append(pair)
    if branches:
        yield branches[-1].context, branches


def _extend(model: torch.nn.Module, cache: DynamicCache, cached: tuple[int, ...], prefix: tuple[int, ...]) -> None:
    """Makes a cache of `cached` one of `prefix`, keeping what both begin with."""
    common = next((place for place, pair in enumerate(zip(cached, prefix, strict=False)) if pair[0] != pair[1]), None)
    common = min(len(cached), len(prefix)) if common is None else common
    cache.crop(common - len(cached))
    if common < len(prefix):
        ids = torch.tensor([prefix[common:]], device=_device(model))
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)


def _rows(branches: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Branches of `ROW_TOKENS` together; one that is longer gets a row to itself."""
    row: list[Pair] = []
    for pair in branches:
        if row and sum(len(each.reply) for each in row) + len(pair.reply) > ROW_TOKENS:
            yield row
            row = []
        row.append(pair)
    if row:
        yield row


def _score_row(model: torch.nn.Module, cache: DynamicCache, cached: int, row: Sequence[Pair]) -> list[Score]:
    """The score of each pair of a row; the cache is left as it was found.

    A branch starts with its context's last token, which predicts the reply's first.
    """
    device = _device(model)
    lengths = torch.tensor([len(pair.reply) for pair in row])
    prefixes = torch.tensor([len(pair.context) - 1 for pair in row])
    ids = torch.tensor([[token for pair in row for token in (pair.context[-1], *pair.reply[:-1])]])
    branch = torch.repeat_interleave(torch.arange(len(row)), lengths)  # (Q,)
    first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    positions = prefixes[branch] + torch.arange(len(branch)) - first
    sees_cache = torch.arange(cached) < prefixes[branch][:, None]
    sees_row = (branch[:, None] == branch) & torch.ones(len(branch), len(branch), dtype=torch.bool).tril()
    mask = torch.cat([sees_cache, sees_row], dim=1)[None, None]  # (1, 1, Q, K)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions[None].to(device),
        past_key_values=cache,
        use_cache=True,
    ).logits[0]  # (Q, V)
    cache.crop(-len(branch))
    return _scores(logits, row)


def _scores(logits: torch.Tensor, row: Sequence[Pair]) -> list[Score]:
    """Of logits (S, V) that predict the replies of a row one after the other."""
    lengths = [len(pair.reply) for pair in row]
    targets = torch.tensor([token for pair in row for token in pair.reply])  # (S,)
    losses = functional.cross_entropy(logits.float(), targets.to(logits.device), reduction="none").cpu().double()
    likeliest = (logits.argmax(-1).cpu() == targets).split(lengths)
    nll = torch.stack([part.sum() for part in losses.split(lengths)]).tolist()
    return [Score(each, bool(hits[:-1].all())) for each, hits in zip(nll, likeliest, strict=True)]


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
