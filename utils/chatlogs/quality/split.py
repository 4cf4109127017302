"""Training, validation and test: whole conversations, the newest held out.

Replies of the held-out sets that training has nearly word for word leave them, too (longer ones: a second "lol" is no
leak).

A model that is tested on the past of what it learned looks better than it is, and so does one that saw the neighbours
of a test message. So conversations that share a message stay together, the split runs along the time, and what still
touches a held-out message leaves the training set.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from utils.chatlogs.quality.near_duplicates import without_copies
from utils.chatlogs.turns import Reply
from utils.console import UserError
from utils.records import ENOUGH_CONVERSATIONS

TEST_SHARES = (0.1, 0.15, 0.2, 0.25)  # more than a quarter is not taken from the training unasked


@dataclass(frozen=True)
class Split:
    """`neighbours` counts the replies left out because they hold a message of a later set, `copies` those left out of
    the later sets because training has nearly the same reply.
    """

    train: list[Reply]
    validation: list[Reply]
    test: list[Reply]
    neighbours: int
    copies: int = 0

    @property
    def sets(self) -> dict[str, list[Reply]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_by_time(replies: Sequence[Reply], validation_share: float, test_share: float | None) -> Split:
    """The newest conversations are the test set, those before them the validation set; none of the three is empty.
    Where no `test_share` is given, it is the smallest of `TEST_SHARES` that makes a verdict possible, or the first.

    Raises UserError where there are fewer than three conversations that share no message.
    """
    if test_share is not None:
        return _split(replies, validation_share, test_share)
    smallest, *larger = TEST_SHARES
    first = _split(replies, validation_share, smallest)
    found = first
    for share in larger:
        if _can_be_judged(found):
            return found
        with contextlib.suppress(UserError):  # such a test would leave nothing to learn from
            found = _split(replies, validation_share, share)
    return found if _can_be_judged(found) else first


def _can_be_judged(split: Split) -> bool:
    return len({reply.record.source.conversation for reply in split.test}) >= ENOUGH_CONVERSATIONS


def _split(replies: Sequence[Reply], validation_share: float, test_share: float) -> Split:
    groups = _group_conversations(replies)
    if len(groups) < 3:
        raise UserError(
            f"{len(replies)} records in {len(groups)} separate conversations are too few: training, validation and "
            "test need one each; add exports, or lower MIN_CONFIDENCE or SESSION_GAP_MINUTES"
        )
    test, rest = _take_newest(groups, test_share * len(replies), leave=2)
    validation, rest = _take_newest(rest, validation_share * len(replies), leave=1)
    train = [reply for group in rest for reply in group]
    kept_validation = _without_neighbours(validation, test)
    kept_train = _without_neighbours(train, [*validation, *test])
    if not kept_train or not kept_validation:
        raise UserError(
            "the conversations quote each other so much that no training, validation and test set come apart"
        )
    neighbours = len(validation) + len(train) - len(kept_validation) - len(kept_train)
    unseen_validation = _without_copies(kept_validation, kept_train)
    unseen_test = _without_copies(test, kept_train)
    copies = len(kept_validation) + len(test) - len(unseen_validation) - len(unseen_test)
    return Split(kept_train, unseen_validation, unseen_test, neighbours, copies)


def _group_conversations(replies: Sequence[Reply]) -> list[list[Reply]]:
    """Replies whose conversations share a turn's message, together; groups and replies in the order of time."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    conversation_of: dict[int, str] = {}
    for reply in replies:
        name = reply.record.source.conversation
        for message_id in reply.turn_ids:
            other = conversation_of.setdefault(message_id, name)
            leader[find(name)] = find(other)
    groups: dict[str, list[Reply]] = defaultdict(list)
    for reply in sorted(replies, key=_when):
        groups[find(reply.record.source.conversation)].append(reply)
    return sorted(groups.values(), key=lambda group: _when(group[-1]))


def _when(reply: Reply) -> tuple[int, int]:
    return reply.unix_ms, int(next(iter(reply.record.source.output_ids), "0"))


def _take_newest(groups: list[list[Reply]], wanted: float, leave: int) -> tuple[list[Reply], list[list[Reply]]]:
    """The newest groups, as many as come nearest to `wanted` replies, at least one; `leave` groups stay at least."""
    first, taken = len(groups) - 1, len(groups[-1])
    while first > leave and abs(taken + len(groups[first - 1]) - wanted) < abs(taken - wanted):
        first -= 1
        taken += len(groups[first])
    return [reply for group in groups[first:] for reply in group], groups[:first]


def _without_copies(held_out: list[Reply], train: list[Reply]) -> list[Reply]:
    """Without what training holds nearly word for word; unless nothing would be left."""
    unlike = without_copies([one.record.output for one in held_out], [one.record.output for one in train])
    return [reply for reply, is_unlike in zip(held_out, unlike, strict=True) if is_unlike] or held_out


def _without_neighbours(replies: Sequence[Reply], later: Sequence[Reply]) -> list[Reply]:
    held_out = frozenset().union(*(reply.turn_ids | reply.context_ids for reply in later))
    return [reply for reply in replies if held_out.isdisjoint(reply.turn_ids | reply.context_ids)]
