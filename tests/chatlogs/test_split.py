"""The split: the newest conversations, whole, and nothing of them in the training set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.chatlogs.quality.split import split_by_time
from utils.chatlogs.turns import Reply
from utils.console import UserError
from utils.records import Record, Source


def reply(number, conversation, turn_ids=(), context_ids=()):
    source = Source(conversation=f"500/{conversation}", output_ids=(str(number),))
    record = Record(instruction="q", output="a", source=source)
    return Reply(record, 1000 * number, frozenset([number, *turn_ids]), frozenset(context_ids))


def numbers(replies):
    return [int(one.record.source.output_ids[0]) for one in replies]


def test_the_newest_conversations_are_held_out():
    made = [reply(10 * c + turn, c) for c in range(20) for turn in range(2)]
    split = split_by_time(made, 0.1, 0.1)
    assert numbers(split.test) == [180, 181, 190, 191]
    assert numbers(split.validation) == [160, 161, 170, 171]
    assert len(split.train) == 32 and split.neighbours == 0


@pytest.mark.parametrize("conversations, held_out", [(100, 10), (117, 12), (120, 30), (150, 30), (200, 30), (400, 40)])
def test_unasked_a_tenth_is_held_out_and_more_where_a_verdict_takes_it(conversations, held_out):
    """30 conversations make one possible: of 120 they are a quarter, which is the most that is taken."""
    made = [reply(10 * c + turn, c) for c in range(conversations) for turn in range(2)]
    split = split_by_time(made, 0.05, None)
    assert len(split.test) == 2 * held_out
    assert numbers(split.test)[-1] == 10 * conversations - 9


def test_three_conversations_give_three_sets():
    split = split_by_time([reply(1, 1), reply(2, 2), reply(3, 3)], 0.05, 0.05)
    assert (numbers(split.train), numbers(split.validation), numbers(split.test)) == ([1], [2], [3])


def test_too_few_conversations_are_one_line():
    with pytest.raises(UserError, match=r"3 records in 2 separate conversations are too few"):
        split_by_time([reply(1, 1), reply(2, 1), reply(3, 2)], 0.05, 0.05)
    with pytest.raises(UserError, match=r"0 records in 0 separate conversations are too few"):
        split_by_time([], 0.05, 0.05)


def test_conversations_that_share_a_turn_stay_together():
    made = [reply(n, n) for n in range(1, 8)]
    made.append(reply(9, 9, turn_ids=[1]))
    split = split_by_time(made, 0.1, 0.1)
    assert numbers(split.test) == [1, 9]


def test_what_a_held_out_record_quotes_leaves_the_training_set():
    made = [reply(n, n) for n in range(1, 8)]
    made.append(reply(9, 9, context_ids=[3]))
    split = split_by_time(made, 0.1, 0.1)
    assert numbers(split.test) == [9] and 3 not in numbers(split.train) and split.neighbours == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sets(st.integers(0, 60), max_size=3), st.sets(st.integers(0, 60), max_size=1)),
        min_size=1,
        max_size=60,
    )
)
def test_no_message_stands_in_two_sets(rows):
    made = [reply(100 + n, conversation, turn, context) for n, (conversation, turn, context) in enumerate(rows)]
    try:
        split = split_by_time(made, 0.1, 0.1)
    except UserError:
        return
    held = [frozenset().union(*(one.turn_ids | one.context_ids for one in part)) for part in split.sets.values()]
    assert all(held) and not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    conversations = [{one.record.source.conversation for one in part} for part in split.sets.values()]
    assert not (conversations[0] & conversations[1] or conversations[0] & conversations[2])
    assert sum(map(len, split.sets.values())) + split.neighbours == len(made)
