"""The cap on replies with the same words."""

from utils.chatlogs.quality.repetition import cap_repeated
from utils.chatlogs.turns import Reply
from utils.records import Record


def replies(*outputs):
    return [
        Reply(Record(instruction="q", output=output), n, frozenset(), frozenset()) for n, output in enumerate(outputs)
    ]


def test_the_same_words_are_kept_up_to_the_limit_spread_over_the_time():
    made = replies(*["lol", "LOL!", "lol...", "Lol"] * 5, "something else")
    assert [reply.unix_ms for reply in cap_repeated(made, 4)] == [0, 5, 10, 15, 20]


def test_signs_without_words_are_told_apart():
    assert len(cap_repeated(replies("🎉", "🎉", "😭", "?", "?!"), 1)) == 4


def test_fewer_than_the_limit_stay():
    made = replies("a", "a", "b")
    assert cap_repeated(made, 2) == made
