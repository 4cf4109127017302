"""The true reply among other replies of the same person: which ones, and where it comes in."""

from __future__ import annotations

import random
from collections.abc import Sequence


def similar_replies(
    texts: Sequence[str], lengths_tokens: Sequence[int], conversations: Sequence[str], candidates: int, seed: int
) -> list[tuple[int, ...]]:
    """For each reply the indices of up to `candidates - 1` others to rank it among.

    They come from other conversations, differ in text after `normalised`, from the reply and from one another, and are
    those nearest in length; equal distances are drawn.
    """
    rng = random.Random(seed)
    plain = [normalised(text) for text in texts]
    chosen = []
    for index, length in enumerate(lengths_tokens):
        by_distance = sorted(range(len(texts)), key=lambda other: (abs(lengths_tokens[other] - length), rng.random()))
        distinct: dict[str, int] = {}
        for other in by_distance:
            if conversations[other] != conversations[index] and plain[other] != plain[index]:
                distinct.setdefault(plain[other], other)
        chosen.append(tuple(distinct.values())[: candidates - 1])
    return chosen


def normalised(text: str) -> str:
    """Case, spacing and closing punctuation make no other reply; `:)` stays what it is."""
    folded = " ".join(text.casefold().split())
    return folded.rstrip(".!?,;… ") or folded


def rank(true: float, others: Sequence[float]) -> int:
    """The place of the true reply's score from 1; a tie counts against it, and so does what is no number."""
    return 1 + sum(not other < true for other in others)


def chance_hits_at_1(candidates: Sequence[int]) -> float:
    """The share of first places that a blind draw gets: the mean of 1/k over replies ranked among k candidates."""
    return sum(1 / count for count in candidates) / len(candidates)


def chance_mrr(candidates: Sequence[int]) -> float:
    """The mean reciprocal rank of a blind draw: the mean of (1 + 1/2 + ... + 1/k) / k; 0.2929 for ten candidates."""
    return sum(sum(1 / place for place in range(1, count + 1)) / count for count in candidates) / len(candidates)
