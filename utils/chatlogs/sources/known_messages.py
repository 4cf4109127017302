"""What better sources say of a channel that is there as CSV, too: messages with ids, and a data package's own."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from utils.chatlogs.message import Message
from utils.chatlogs.sources.discord_csv import Row
from utils.chatlogs.sources.export import DISCORD_EPOCH_MS

Minute = list[Row]


@dataclass
class Known:
    """The messages with real ids of a channel that is there as CSV, too."""

    moments: set[tuple[int, int]] = field(default_factory=set)  # (author id, unix_ms)
    own: dict[tuple[int, int], int] = field(default_factory=dict)  # of data packages: the same -> the message's id
    owners: dict[str, int] = field(default_factory=dict)  # their owners: a name in lower case -> the person's id
    covered: set[int] = field(default_factory=set)  # ids of data packages that `merge` has found in coarser exports

    def add(self, messages: Iterable[Message]) -> None:
        self.moments.update((message.author_id, message.unix_ms) for message in messages)

    def add_own(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.own[message.author_id, (message.id >> 22) + DISCORD_EPOCH_MS] = message.id
            for name in filter(None, (message.author_name, message.author_nickname)):
                self.owners[name.casefold()] = message.author_id


def outside(minutes: Mapping[int, Minute], moments: set[tuple[int, int]], doubt_ms: int) -> dict[int, Minute]:
    """The minutes before and after the time that better exports cover: inside it a coarse clock can't be matched."""
    if not moments:
        return dict(minutes)
    first = min(at for _, at in moments) - doubt_ms
    last = max(at for _, at in moments) + doubt_ms
    return {at: rows for at, rows in minutes.items() if not first - 60_000 < at <= last}


def own_near(minutes: Mapping[int, Minute], known: Known, within_ms: int) -> set[int]:
    """The ids of a data package's messages within so many milliseconds of a row of the same person."""
    moments: dict[int, list[int]] = defaultdict(list)
    for at in sorted(minutes) if known.own else ():
        for row in minutes[at]:
            # a person without an id has the owner's name
            author_id = known.owners.get(row.author_name.casefold()) if row.author_id < 2**48 else row.author_id
            moments[author_id or row.author_id].append(at)
    near = set()
    for (author_id, at), message_id in known.own.items():
        place = bisect_left(moments[author_id], at - within_ms)
        if place < len(moments[author_id]) and moments[author_id][place] <= at + within_ms:
            near.add(message_id)
    return near
