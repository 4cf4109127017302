"""ChannelView: the facts about one channel that the pairing signals look up.

Every list is parallel to the channel's messages. A person is a small integer; see `people.person_key` for who is one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, partial
from itertools import chain

import numpy as np

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.message_forms import EDGES, forms_of, names_of, words_of
from utils.chatlogs.people import person_key

NAME_MEMORY_MESSAGES = 500  # a name in plain text means somebody who spoke within this many messages
COMMON_WORD_SHARE = 0.002  # a nickname that is this common as a word is no name unless it opens the message
PARTNER_MEMORY_SECONDS = 900  # how long a person is taken to keep talking to the same partner
BURST_SECONDS = 180  # two messages of one person further apart than this are two bursts


def can_be_answered(message: Message) -> bool:
    return not (message.is_bot or message.is_system or message.is_forward)


class ChannelView:
    """Who speaks, whom a message addresses and what its words weigh, over the messages of one channel in order."""

    def __init__(self, messages: Sequence[Message], session_gap_minutes: float):
        self.messages = messages
        self._people: dict[tuple[int, str], int] = {}
        self.index_of_id = {message.id: index for index, message in enumerate(messages)}
        self.person = [self._number(person_key(message)) for message in messages]
        self.previous_of_author, self.next_of_author = self._neighbours()
        bots = {message.author_id for message in messages if message.is_bot}
        self.is_to_bots = [
            bool(message.mentions) and message.reply_to is None and bots.issuperset(message.mentions)
            for message in messages
        ]
        self.answerable = [can_be_answered(message) for message in messages]
        self.is_two_person = len({p for p, speaks in zip(self.person, self.answerable, strict=True) if speaks}) == 2
        self.session = _sessions(messages, session_gap_minutes)
        words = [words_of(message.content) for message in messages]
        self._document_frequency = Counter(chain.from_iterable(words))
        self.mentioned: list[tuple[int, ...]] = []  # by a mention or an explicit reply
        self.named: list[tuple[int, ...]] = []  # by the plain name in the text, without @
        self.partner: list[int | None] = []  # the likeliest addressee by turn-taking, explicit or not
        self._follow_addressees()
        self.addressed_people = [mentions or names for mentions, names in zip(self.mentioned, self.named, strict=True)]
        self._flagged: dict[tuple[str, int], np.ndarray] = {}
        self._address_share: float | None = None
        # What signals ask for again and again, each worked out once, and looked up without a call of Python's.
        self.words = words.__getitem__  # of a message: lower-case, three letters and more, mentions left out
        self.topic = cache(partial(_topic, words, self.previous_of_author, self.session))
        self.rarity = cache(partial(_rarity, self._document_frequency, len(messages)))
        self.forms = cache(lambda index: forms_of(messages[index].content))

    def _number(self, key: tuple[int, str]) -> int:
        return self._people.setdefault(key, len(self._people))

    def person_of_id(self, author_id: int) -> int:
        return self._number((author_id, ""))

    def seconds_between(self, earlier: int, later: int) -> float:
        return (self.messages[later].unix_ms - self.messages[earlier].unix_ms) / 1000

    def _neighbours(self) -> tuple[list[int | None], list[int | None]]:
        """The author's message before and after each message."""
        last: dict[int, int] = {}
        previous: list[int | None] = []
        following: list[int | None] = [None] * len(self.messages)
        for index, person in enumerate(self.person):
            before = last.get(person)
            previous.append(before)
            if before is not None:
                following[before] = index
            last[person] = index
        return previous, following

    def _follow_addressees(self) -> None:
        """One pass in time order: names seen so far, and with whom each person is talking."""
        name_seen: dict[str, tuple[int, int]] = {}  # name -> (person, index of the last message under it)
        talking_to: dict[int, tuple[int, int]] = {}  # person -> (partner, unix_ms)
        common = max(3.0, COMMON_WORD_SHARE * len(self.messages))
        for index, message in enumerate(self.messages):
            author = self.person[index]
            mentioned = dict.fromkeys(self._number((user, "")) for user in message.mentions)
            if message.reply_to is not None and message.reply_to in self.index_of_id:
                mentioned[self.person[self.index_of_id[message.reply_to]]] = None
            mentioned.pop(author, None)
            named = self._names_in(message.content, index, name_seen, common)
            self.mentioned.append(tuple(mentioned))
            self.named.append(tuple(p for p in named if p != author and p not in mentioned))
            explicit = self.mentioned[-1] or self.named[-1]
            held = talking_to.get(author)
            if explicit:
                talking_to[author] = (explicit[0], message.unix_ms)
            elif held is not None and message.unix_ms - held[1] > PARTNER_MEMORY_SECONDS * 1000:
                del talking_to[author]
            elif held is not None:
                talking_to[author] = (held[0], message.unix_ms)
            held = talking_to.get(author)
            self.partner.append(held[0] if held else None)
            for person in explicit:  # who is spoken to, and talks to nobody, is taken to talk back
                talking_to.setdefault(person, (author, message.unix_ms))
            if self.answerable[index]:
                for name in names_of(message.author_name, message.author_nickname):
                    name_seen[name] = (author, index)

    def _names_in(
        self, content: str, index: int, name_seen: dict[str, tuple[int, int]], common: float
    ) -> dict[int, None]:
        found: dict[int, None] = {}
        words = content.lower().split()
        names = [word.strip(EDGES) for word in words]
        if name_seen.keys().isdisjoint(names):
            return found
        for position, (raw, name) in enumerate(zip(words, names, strict=True)):
            seen = name_seen.get(name)
            if seen is None or index - seen[1] > NAME_MEMORY_MESSAGES:
                continue
            opens = position == 0 and raw[-1] in ":,"
            if opens or raw[0] == "@" or self._document_frequency[name] < common:
                found[seen[0]] = None
        return found

    def addressed(self, index: int) -> frozenset[int]:
        """Whom the message mentions; without a mention, whom it names."""
        return frozenset(self.addressed_people[index])

    def address_habit(self, indices: Sequence[int]) -> float:
        """Share of these messages that address somebody, 0..1; few messages lean on the channel's share."""
        if self._address_share is None:
            self._address_share = float(self.addresses_somebody.mean())
        spoken = sum(bool(self.addressed(i)) for i in indices)
        return (spoken + 10 * self._address_share) / (len(indices) + 10)

    # What signals look up for many messages at once: columns over the channel's messages.

    @cached_property
    def unix_ms(self) -> np.ndarray:
        return np.array([message.unix_ms for message in self.messages], dtype=np.int64)

    @cached_property
    def session_start(self) -> np.ndarray:
        """Index of the first message of each message's session."""
        return np.searchsorted(self.session, self.session)

    @cached_property
    def partners(self) -> np.ndarray:
        """`partner`, -1 for nobody."""
        return np.array([-1 if partner is None else partner for partner in self.partner], dtype=int)

    @cached_property
    def addresses_somebody(self) -> np.ndarray:
        return np.array(list(map(bool, self.addressed_people)), dtype=bool)

    @cached_property
    def is_first_of_author(self) -> np.ndarray:
        """Nothing by the author in the session's last half hour."""
        earlier = [index if before is None else before for index, before in enumerate(self.previous_of_author)]
        is_first = np.array([before is None for before in self.previous_of_author], dtype=bool)
        return is_first | ((self.unix_ms - self.unix_ms[earlier]) / 1000 > 1800)

    @cached_property
    def seconds_to_next_of_author(self) -> np.ndarray:
        later = [index if after is None else after for index, after in enumerate(self.next_of_author)]
        is_last = [after is None for after in self.next_of_author]
        return np.where(is_last, math.inf, (self.unix_ms[later] - self.unix_ms) / 1000)

    def mentioning(self, person: int) -> np.ndarray:
        return self._flags("mentioned", person)

    def naming(self, person: int) -> np.ndarray:
        return self._flags("named", person)

    def addressing(self, person: int) -> np.ndarray:
        """Who mentions the person, or, without a mention, names them."""
        return self._flags("addressed_people", person)

    def _flags(self, column: str, person: int) -> np.ndarray:
        key = (column, person)
        if key not in self._flagged:
            self._flagged[key] = np.array([person in people for people in getattr(self, column)], dtype=bool)
        return self._flagged[key]


def _topic(
    words: Sequence[frozenset[str]], previous_of_author: Sequence[int | None], session: Sequence[int], index: int
) -> frozenset[str]:
    """The words of the author's three messages before this one, in the session, that it doesn't hold itself."""
    found: frozenset[str] = frozenset()
    earlier = index
    for _ in range(3):
        earlier = previous_of_author[earlier]
        if earlier is None or session[earlier] != session[index]:
            break
        found |= words[earlier]
    return found - words[index]


def _rarity(document_frequency: Mapping[str, int], messages: int, word: str) -> float:
    """Inverse document frequency (Spärck Jones 1972), scaled to 0..1: 1 is a word said once in the channel."""
    return math.log((messages + 1) / (1 + document_frequency[word])) / math.log(messages + 1)


def _sessions(messages: Sequence[Message], gap_minutes: float) -> list[int]:
    """A number per message that goes up wherever the channel was silent for more than the gap."""
    sessions, current, before = [], 0, None
    for message in messages:
        if before is not None and message.unix_ms - before > gap_minutes * 60_000:
            current += 1
        before = message.unix_ms
        sessions.append(current)
    return sessions
