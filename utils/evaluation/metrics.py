"""Measures of generated text that need no model: does it degenerate, how near is it to the true reply.

A word is what stands between spaces.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

CHRF_ORDER = 6
CHRF_BETA = 2

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


def rep_4(text: str) -> float | None:
    """1 - distinct 4-grams / 4-grams of one reply's words; None for one of fewer than four."""
    grams = _ngrams(text.split(), 4)
    return 1 - len(set(grams)) / len(grams) if grams else None


def distinct_2(texts: Sequence[str], words: int) -> float | None:
    """Distinct bigrams / bigrams over the pool's first `words` words (Li et al. 2016); bigrams don't cross replies.

    The value falls with the size of the pool, so two pools compare at equal `words` alone. None without a bigram.
    """
    grams: list[tuple[str, ...]] = []
    for text in texts:
        kept = text.split()[:words]
        words -= len(kept)
        grams += _ngrams(kept, 2)
    return len(set(grams)) / len(grams) if grams else None


def unigram_f1(guess: str, truth: str) -> float:
    """ConvAI2's F1 (Dinan et al. 2019): over words in lower case, without punctuation and articles."""
    found, wanted = _convai2_words(guess), _convai2_words(truth)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def chrf_counts(guess: str, truth: str) -> list[int]:
    """Of the character n-grams of order 1 to 6, spaces left out: matches, those of the guess, those of the truth. An
    order that the truth is too short for counts nothing."""
    counts = []
    found, wanted = "".join(guess.split()), "".join(truth.split())
    for order in range(1, CHRF_ORDER + 1):
        ours, theirs = char_ngrams(found, order), char_ngrams(wanted, order)
        counts += [(ours & theirs).total(), ours.total() if theirs else 0, theirs.total()]
    return counts


def chrf(counts: np.ndarray) -> np.ndarray:
    """chrF2 from 0 to 100 (Popovic 2015, as sacrebleu computes it for a corpus) of summed `chrf_counts` (..., 18).

    Precision and recall are means over the orders that both sides have n-grams of.
    """
    matches, guessed, true = (counts[..., part::3].astype(float) for part in range(3))
    both = (guessed > 0) & (true > 0)
    orders = np.maximum(both.sum(-1), 1)
    precision = np.where(both, matches / np.maximum(guessed, 1), 0).sum(-1) / orders
    recall = np.where(both, matches / np.maximum(true, 1), 0).sum(-1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    return 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)


def char_ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


def _ngrams(words: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def _convai2_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", _PUNCTUATION.sub(" ", text.lower())).split()
