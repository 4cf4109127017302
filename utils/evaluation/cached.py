"""Whether a model can go on from a cache: found out by trying, since some leave one unread, and a few break over it."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache, PreTrainedModel

LENGTH = 8

_found: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def goes_on(model: PreTrainedModel, prompt: Sequence[int]) -> bool:
    """Whether one more token behind a cache of the others comes nearer to what the whole `prompt` says than that token
    alone. The first `LENGTH` tokens are tried, once for each model."""
    if model not in _found:
        ids = torch.tensor([prompt[:LENGTH]], device=model.device)
        _found[model] = ids.shape[1] < 2 or _goes_on(model, ids)
    return _found[model]


@torch.inference_mode()
def _goes_on(model: PreTrainedModel, ids: torch.Tensor) -> bool:
    def last_logits(part: torch.Tensor, start: int, cache: DynamicCache | None) -> torch.Tensor:
        end = start + part.shape[1]
        return model(
            input_ids=part,
            attention_mask=torch.ones(1, end, dtype=torch.long, device=ids.device),
            position_ids=torch.arange(start, end, device=ids.device)[None],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        ).logits[0, -1]

    whole, alone = last_logits(ids, 0, None), last_logits(ids[:, -1:], 0, None)
    try:
        cache = DynamicCache(config=model.config)
        last_logits(ids[:, :-1], 0, cache)
        behind = last_logits(ids[:, -1:], ids.shape[1] - 1, cache)
    except Exception:  # made for another cache, it fails in ways of its own
        return False
    return bool(torch.dist(behind, whole) <= torch.dist(behind, alone))
