"""Does it write like the persona? Cosines between pooled counts of character 3-grams.

F is the number of distinct 3-grams in the persona's text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from utils.evaluation.bootstrap import Statistic, conversation_sums
from utils.evaluation.metrics import char_ngrams

MESSAGES = 50  # fewer hold too few 3-grams to tell people apart
HALVINGS = 200
SEPARATED_SHARE = 0.95


def cosine(texts: Sequence[str], others: Sequence[str]) -> float:
    """Of the pooled counts of two sets of texts: 1 when they are proportional, 0 when nothing is shared or one is
    empty."""
    found, wanted = _pooled(texts), _pooled(others)
    product = sum(count * wanted[gram] for gram, count in found.items())
    return product / (_norm(found) * _norm(wanted)) if product else 0.0


def separates(persona: Sequence[str], others: Sequence[str], seed: int) -> bool:
    """Whether the persona's real text can be told from other speakers' at all, by this measure and with so much of it.

    The persona's messages are halved at random 200 times: in 95% of them one half must be nearer to the other half than
    to as many messages of others. False with fewer than 50 messages on a side.
    """
    if min(len(persona), len(others)) < MESSAGES:
        return False
    vocabulary: dict[str, int] = {}
    ours, theirs = _counts(persona, vocabulary), _counts(others, vocabulary)
    ours = np.pad(ours, ((0, 0), (0, len(vocabulary) - ours.shape[1])))
    rng = np.random.default_rng(seed)
    half = len(persona) // 2
    nearer = 0
    for _ in range(HALVINGS):
        order = rng.permutation(len(persona))
        first, second = ours[order[:half]].sum(0), ours[order[half : 2 * half]].sum(0)
        strangers = theirs[rng.choice(len(others), min(half, len(others)), replace=False)].sum(0)
        nearer += _cosine(first, second) > _cosine(first, strangers)
    return nearer >= SEPARATED_SHARE * HALVINGS


def likeness(
    generated: Sequence[str], conversations: Sequence[str], persona: Sequence[str], others: Sequence[str]
) -> Statistic:
    """Cosine with the persona's text minus cosine with other speakers', for weights over the conversations of the
    generated replies; the reference texts stay as they are."""
    vocabulary: dict[str, int] = {}
    sums = conversation_sums(_counts(generated, vocabulary), conversations)  # (C, F)
    gram = sums @ sums.T
    direction = _direction(persona, vocabulary) - _direction(others, vocabulary)
    along = sums @ direction

    def statistic(weights: np.ndarray) -> np.ndarray:
        norms = np.sqrt(((weights @ gram) * weights).sum(1))
        return (weights @ along) / np.where(norms > 0, norms, 1)

    return statistic


def _direction(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """The pooled counts at unit length, restricted to a vocabulary; what is outside it still counts for the length."""
    pooled = _pooled(texts)
    return np.array([pooled[gram] for gram in vocabulary], dtype=float) / max(_norm(pooled), 1e-12)


def _counts(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """(N, F) counts; 3-grams not yet in `vocabulary` are added to it."""
    counted = [_trigrams(text) for text in texts]
    for grams in counted:
        for gram in grams:
            vocabulary.setdefault(gram, len(vocabulary))
    counts = np.zeros((len(texts), len(vocabulary)))
    for row, grams in enumerate(counted):
        for gram, count in grams.items():
            counts[row, vocabulary[gram]] = count
    return counts


def _pooled(texts: Sequence[str]) -> Counter[str]:
    pooled: Counter[str] = Counter()
    for text in texts:
        pooled.update(_trigrams(text))
    return pooled


def _trigrams(text: str) -> Counter[str]:
    return char_ngrams(f" {text.strip()} " if text.strip() else "", 3)


def _norm(counts: Counter[str]) -> float:
    return sum(count * count for count in counts.values()) ** 0.5


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12)
