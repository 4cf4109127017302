"""Caps what the persona says all the time: without a cap a model learns to answer everything with it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from utils.chatlogs.turns import Reply

_NOT_WORDS = re.compile(r"[\W_]+")


def cap_repeated(replies: Sequence[Reply], limit: int) -> list[Reply]:
    """At most `limit` replies with the same words (or, without words, the same signs), spread evenly over the time."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, reply in enumerate(replies):
        output = reply.record.output.casefold()
        same[_NOT_WORDS.sub(" ", output).strip() or output].append(index)
    kept = set()
    for indices in same.values():
        count = min(limit, len(indices))
        kept.update(indices[number * len(indices) // count] for number in range(count))
    return [reply for index, reply in enumerate(replies) if index in kept]
