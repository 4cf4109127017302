"""What the signals look at: a message of the persona, and the earlier ones that it may answer or continue."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from utils.chatlogs.pairing.channel_view import ChannelView


@dataclass(slots=True)
class Situation:
    """A message of the persona whose parent is sought, and what the persona did before it in the session."""

    view: ChannelView
    reply: int  # index of the message
    author: int
    answered: dict[int, int]  # index of another's message -> index of the persona's message that answered it
    parent_person: dict[int, int]  # index of a persona's message -> the person it was found to answer
    own_before: int | None  # index of the persona's previous message
    habit: float  # share of the persona's messages that mention somebody, 0..1
    addressed: frozenset[int] = frozenset()  # people whom the reply mentions or names
    answered_back: frozenset[int] = frozenset()  # people who address the persona soon after the reply
    quiet: float = 0.0  # 1 / number of other people among the last messages: 1 where only one other person speaks
    last_to: dict[int, int] = field(default_factory=dict)  # person -> the persona's last message that answers them
    addressed_later: frozenset[int] = frozenset()  # people whom the persona's next few messages address
    speaks_next: frozenset[int] = frozenset()  # people who speak right after the reply, and not to third people
    turns_away: frozenset[int] = frozenset()  # people who address third people right after the reply
    words_next: dict[int, frozenset[str]] = field(default_factory=dict)  # person -> words in their next few messages
    replied_back: frozenset[int] = frozenset()  # people who answer this message with an explicit reply


@dataclass(slots=True)
class Candidates:
    """Earlier messages and where they stand: parallel columns, the latest first.

    Counts are over the messages between a candidate and the reply.
    """

    indices: list[int]
    people: list[int]  # who wrote them
    index: np.ndarray  # `indices` once more
    person: np.ndarray  # `people` once more
    others_between: np.ndarray  # messages by others
    same_author_after: np.ndarray  # messages by the candidate's author
    own_after: np.ndarray  # messages by the persona
    addressed_after: np.ndarray  # messages by others that address the persona
    seconds: np.ndarray
    words: list[frozenset[str]]
    forms: list[frozenset[str]]

    def by(self, people: Collection[int]) -> np.ndarray:
        """Which of them are by these people."""
        if len(people) == 1:
            return self.person == next(iter(people))
        return np.array([person in people for person in self.people], dtype=bool)

    def are(self, form: str) -> np.ndarray:
        """Which of them look like that."""
        return np.array([form in forms for forms in self.forms], dtype=bool)


Values = np.ndarray | float  # one for each candidate, or one for all
Signal = Callable[[Situation, Candidates], Values]
OpeningSignal = Callable[[Situation], float]
