"""Intervals come from whole conversations, drawn alike for both models."""

from __future__ import annotations

import time

import numpy as np
import pytest

from utils.evaluation.bootstrap import conversation_sums, interval, point, ratio, resample_weights
from utils.evaluation.results import Interval


def drawn(seed: int, conversations: int, replies: int, shift: float = 0.0):
    """Base and tuned values of replies whose conversations differ much from each other, and the replies little."""
    rng = np.random.default_rng(seed)
    names = [f"c/{index}" for index in range(conversations) for _ in range(replies)]
    base = rng.normal(3, 1, len(names))
    change = np.repeat(rng.normal(shift, 0.3, conversations), replies) + rng.normal(0, 0.05, len(names))
    return names, base, base + change


def of(names, base, tuned, seed=0) -> Interval | None:
    ones = np.ones(len(names))
    weights = resample_weights(len(set(names)), seed)
    return interval(ratio(base, ones, names), ratio(tuned, ones, names), weights)


def test_every_resample_draws_as_many_conversations_as_there_are():
    weights = resample_weights(7, seed=0)
    assert weights.shape == (2000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (resample_weights(7, seed=0) == weights).all()
    assert (resample_weights(7, seed=1) != weights).any()


def test_sums_by_conversation_in_order_of_appearance():
    assert conversation_sums([1, 2, 3, 4], ["b", "a", "b", "c"]).tolist() == [4, 2, 4]
    assert conversation_sums([[1, 10], [2, 20], [3, 30]], ["b", "a", "b"]).tolist() == [[4, 40], [2, 20]]


def test_a_ratio_weighs_by_its_denominator():
    statistic = ratio([2.0, 12.0], [2, 4], ["a", "b"])
    assert point(statistic, 2) == pytest.approx(14 / 6)
    assert statistic(np.array([[2, 0], [0, 2], [1, 1]])).tolist() == pytest.approx([1, 3, 14 / 6])


def test_equal_models_have_an_interval_of_nothing():
    names, base, _ = drawn(0, 20, 3)
    found = of(names, base, base)
    assert (found.low, found.high) == (0, 0)
    assert not found.excludes_zero


def test_the_interval_is_that_of_the_difference_not_of_two_levels():
    names, base, tuned = drawn(0, 40, 3, shift=-0.5)
    found = of(names, base, tuned)
    assert found.low < np.mean(tuned - base) < found.high
    assert found.high < 0
    assert found.high - found.low < 0.3  # the levels alone vary by more than that


def test_replies_of_one_conversation_are_not_independent():
    names, base, tuned = drawn(0, 30, 20)
    apart = [f"{name}/{index}" for index, name in enumerate(names)]
    together, naive = of(names, base, tuned), of(apart, base, tuned)
    assert together.high - together.low > 2 * (naive.high - naive.low)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    held = [found.low <= -0.2 <= found.high for found in (of(*drawn(seed, 50, 2, -0.2), seed) for seed in range(300))]
    assert 0.90 <= np.mean(held) <= 0.98


def test_one_conversation_gives_no_interval():
    assert of(["a", "a"], [1.0, 2.0], [2.0, 3.0]) is None


def test_infinite_values_give_no_interval():
    assert of(["a", "b", "c"], [1.0, 2.0, 1.0], [2.0, float("inf"), 1.0]) is None


def test_ten_metrics_of_200_conversations_take_less_than_a_second():
    names, base, tuned = drawn(0, 200, 5)
    started_s = time.process_time()
    for seed in range(10):
        of(names, base, tuned, seed)
    assert time.process_time() - started_s < 1
