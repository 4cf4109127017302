"""Which earlier messages a message of the persona may answer or continue, and where each stands."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.evidence import Candidates, Situation

WINDOW_MESSAGES = 40  # so many messages by others are candidates, the latest first
ADDRESSED_WINDOW_MESSAGES = 200  # messages of the people that the reply addresses are looked for as far back as this
ADDRESSED_LIMIT = 4
OWN_LIMIT = 3  # own messages that can be continued


class Candidacy:
    """Finds the candidates of one persona's messages. `before[i]` counts what stands before message i."""

    def __init__(self, view: ChannelView, author: int):
        self._view = view
        self._person = np.array(view.person, dtype=int)
        is_own = self._person == author
        by_others = np.array(view.answerable) & ~is_own
        self._others = np.flatnonzero(by_others)
        self._others_before = _running_count(by_others)
        self._own_before = _running_count(np.array(view.answerable) & is_own & ~np.array(view.is_to_bots))
        self._addressing_before = _running_count(by_others & view.addressing(author))
        self._spoken: dict[int, list[int]] = defaultdict(list)  # person -> the messages that can be answered
        self._rank = np.zeros(len(view.messages), dtype=int)  # place of a message among its author's
        for index, (person, can_be_answered) in enumerate(zip(view.person, view.answerable, strict=True)):
            if can_be_answered:
                self._rank[index] = len(self._spoken[person])
                self._spoken[person].append(index)

    def find(self, s: Situation, own_before: Sequence[int]) -> tuple[Candidates, Candidates]:
        """Messages by others, then the persona's own, the latest first, all of the reply's session."""
        start, end = self._others_before[[self._view.session_start[s.reply], s.reply]]
        near = self._others[max(start, end - WINDOW_MESSAGES) : end][::-1].tolist()
        replies = self._candidates(s.reply, [*near, *self._far(s)])
        owns = self._candidates(s.reply, [i for i in own_before[-OWN_LIMIT:][::-1] if self._is_in_reach(s, i)])
        return replies, owns

    def _far(self, s: Situation) -> list[int]:
        """The last messages of the people addressed, from beyond the window."""
        found = []
        for person in s.addressed:
            spoken = self._spoken[person]
            end = bisect_left(spoken, s.reply)
            found += [
                index
                for index in spoken[max(0, end - ADDRESSED_LIMIT) : end]
                if self._view.session[index] == self._view.session[s.reply]
                and self._others_between(s.reply, index) >= WINDOW_MESSAGES
                and self._is_in_reach(s, index)
            ]
        return sorted(found, reverse=True)

    def _is_in_reach(self, s: Situation, index: int) -> bool:
        return self._others_between(s.reply, index) < ADDRESSED_WINDOW_MESSAGES

    def _others_between(self, reply: int, index: int) -> int:
        return self._others_before[reply] - self._others_before[index + 1]

    def _candidates(self, reply: int, indices: list[int]) -> Candidates:
        index = np.array(indices, dtype=int)
        after = index + 1
        person = self._person[index]
        people = person.tolist()
        latest: dict[int, int] = {}  # the latest message of every candidate's author is a candidate
        same = [
            latest.setdefault(person, rank) - rank
            for person, rank in zip(people, self._rank[index].tolist(), strict=True)
        ]
        return Candidates(
            indices=indices,
            people=people,
            index=index,
            person=person,
            others_between=self._others_before[reply] - self._others_before[after],
            same_author_after=np.array(same, dtype=int),
            own_after=self._own_before[reply] - self._own_before[after],
            addressed_after=self._addressing_before[reply] - self._addressing_before[after],
            seconds=(self._view.unix_ms[reply] - self._view.unix_ms[index]) / 1000,
            words=list(map(self._view.words, indices)),
            forms=list(map(self._view.forms, indices)),
        )


def _running_count(flags: np.ndarray) -> np.ndarray:
    """How many flags are set before each place; one longer than the flags."""
    return np.concatenate([[0], np.cumsum(flags)])
