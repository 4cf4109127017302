"""The true reply among others: hand-computed ranks, ties against, no equal texts, wrong contexts from elsewhere."""

from __future__ import annotations

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.evaluation.contexts import conversation_names, derangements
from utils.evaluation.ranking import chance_hits_at_1, chance_mrr, normalised, rank, similar_replies
from utils.records import Record, Source


def test_ranks_of_one_and_two_by_hand():
    ranks = [rank(-1.0, [-2.0, -3.0]), rank(-1.0, [-0.5, -3.0])]
    assert ranks == [1, 2]
    assert sum(each == 1 for each in ranks) / 2 == 0.5
    assert sum(1 / each for each in ranks) / 2 == 0.75


def test_a_tie_counts_against():
    assert rank(-1.0, [-1.0, -1.0, -2.0]) == 3


def test_what_is_no_number_counts_against():
    assert rank(math.nan, [-1.0, -2.0]) == 3
    assert rank(-1.0, [math.nan, -2.0]) == 2


def test_chance_by_hand():
    assert chance_hits_at_1([10, 10]) == pytest.approx(0.1)
    assert chance_mrr([10]) == pytest.approx(0.2929, abs=1e-4)
    assert chance_hits_at_1([2, 4]) == pytest.approx(0.375)
    assert chance_mrr([1, 2]) == pytest.approx((1 + 0.75) / 2)


@pytest.mark.parametrize(
    ("one", "other"), [("Yes", "yes."), ("so  what\nnow", "so what now?"), ("STRASSE", "straße"), ("hm...", "hm")]
)
def test_equal_texts(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), [(":)", ":("), ("?", "!"), ("", "..."), ("yes", "yes we can")])
def test_different_texts(one, other):
    assert normalised(one) != normalised(other)


def test_the_nearest_in_length_from_other_conversations_compete():
    texts = ["true reply", "same conversation", "near", "nearer", "far away from it", "True reply!"]
    others = similar_replies(texts, [5, 5, 7, 6, 20, 5], ["a", "a", "b", "c", "d", "e"], candidates=3, seed=0)
    assert others[0] == (3, 2)


def test_a_text_competes_once():
    others = similar_replies(["reply", "ok", "OK!", "no"], [3, 2, 2, 2], list("abcd"), candidates=10, seed=0)
    assert len(others[0]) == 2
    assert 3 in others[0]
    assert sorted(others[1]) == [0, 3]  # never an equal text


def test_fewer_replies_than_asked_for_and_none_at_all():
    assert similar_replies(["one", "two"], [1, 1], ["a", "b"], candidates=10, seed=0) == [(1,), (0,)]
    assert similar_replies(["one", "two"], [1, 1], ["a", "a"], candidates=10, seed=0) == [(), ()]


def test_the_seed_draws_among_equals():
    texts = [f"reply {index}" for index in range(30)]
    conversations = list(map(str, range(30)))
    drawn = [similar_replies(texts, [4] * 30, conversations, 10, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(each)) == 9 for each in drawn[0])


@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12), count=st.integers(1, 5), seed=st.integers(0, 5))
def test_wrong_contexts_come_from_other_conversations_each_once(sizes, count, seed):
    conversations = [f"c/{number}" for number, size in enumerate(sizes) for _ in range(size)]
    partners = derangements(conversations, count, seed)
    spare = len(conversations) - 2 * max(sizes)
    for index, borrowed in enumerate(partners):
        assert all(conversations[partner] != conversations[index] for partner in borrowed)
        assert len(set(borrowed)) == len(borrowed) == min(count, max(spare, 0) + 1)
    for turn in zip(*partners, strict=True):
        if spare >= 0:
            assert sorted(turn) == list(range(len(conversations)))
        else:  # the others' contexts can't go round
            assert max(collections.Counter(turn).values()) <= max(sizes)


def test_the_seed_draws_the_wrong_contexts():
    conversations = [f"c/{index // 2}" for index in range(20)]
    drawn = [derangements(conversations, 3, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_one_conversation_has_no_wrong_context():
    assert derangements(["a", "a"], 3, 0) == [(), ()]


def test_a_record_without_a_source_is_a_conversation_of_its_own():
    records = [Record(instruction="a", output="b"), Record(instruction="a", output="b")]
    sourced = Record(instruction="a", output="b", source=Source(conversation="1/2"))
    names = conversation_names([*records, sourced, sourced])
    assert names[0] != names[1]
    assert names[2:] == ["1/2", "1/2"]
