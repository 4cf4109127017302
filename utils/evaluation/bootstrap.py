"""Paired bootstrap over conversations (Koehn 2004): replies of one conversation are not independent of each other.

C conversations, R resamples. A resample is a row of weights: how often each conversation was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from utils.evaluation.results import Interval

RESAMPLES = 2000

Statistic = Callable[[np.ndarray], np.ndarray]  # weights (R, C) -> one value per row (R,)


def resample_weights(conversations: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """(R, C): each row draws C conversations with replacement."""
    return np.random.default_rng(seed).multinomial(conversations, np.full(conversations, 1 / conversations), resamples)


def conversation_sums(values: Sequence[float] | np.ndarray, conversations: Sequence[str]) -> np.ndarray:
    """(C,) or (C, F): the values (N,) or (N, F) of N replies added up by conversation, in order of first appearance."""
    places = {name: place for place, name in enumerate(dict.fromkeys(conversations))}
    values = np.asarray(values, dtype=float)
    sums = np.zeros((len(places), *values.shape[1:]))
    np.add.at(sums, [places[name] for name in conversations], values)
    return sums


def ratio(numerators: Sequence[float], denominators: Sequence[float], conversations: Sequence[str]) -> Statistic:
    """Sum over sum: a token-weighted mean when the denominators are tokens, a mean over replies when they are 1. NaN
    where nothing was drawn that counts."""
    top, bottom = conversation_sums(numerators, conversations), conversation_sums(denominators, conversations)

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (weights @ top) / (weights @ bottom)

    return statistic


def point(statistic: Statistic, conversations: int) -> float:
    """The statistic of the data as they are."""
    return float(statistic(np.ones((1, conversations)))[0])


def interval(base: Statistic, tuned: Statistic, weights: np.ndarray) -> Interval | None:
    """The 2.5 and 97.5 percentiles of tuned minus base, both on the same resamples (R, C); None when a value is not
    finite, or for a single conversation."""
    if weights.shape[1] < 2:
        return None
    differences = tuned(weights) - base(weights)
    differences = differences[~np.isnan(differences)]
    if not len(differences) or not np.isfinite(differences).all():
        return None
    low, high = np.percentile(differences, [2.5, 97.5])
    return Interval(float(low), float(high))
