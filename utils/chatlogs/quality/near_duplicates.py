"""Replies that say nearly the same: by the share of runs of words that two texts have in common.

Similarity is the Jaccard index of two sets of SHINGLE_WORDS words in a row, counted and not estimated. Two sets are
that similar only if they share one of their rarest members, so only texts that do are compared (prefix filtering:
Chaudhuri, Ganti and Kaushik, "A primitive operator for similarity joins in data cleaning", ICDE 2006).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

SHINGLE_WORDS = 3
MIN_WORDS = 8  # a second "lol", or "thanks, that worked", is no copy
MIN_SIMILARITY = 0.8  # 0 to 1
COMPARED_AT_MOST = 200  # others with the same rare words; more than that have more in common with somebody anyway

Shingles = frozenset[str]

_WORD = re.compile(r"\w+")


def shingles(text: str) -> Shingles:
    """The runs of words in it, the same for any case and punctuation; none for texts under MIN_WORDS."""
    words = _WORD.findall(text.casefold())
    if len(words) < MIN_WORDS:
        return frozenset()
    return frozenset(map(" ".join, zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False)))


class Index:
    """Texts to compare others with. `known` are all texts that will be added or asked for: they say what is rare."""

    def __init__(self, known: Iterable[Shingles], min_similarity: float = MIN_SIMILARITY):
        self._frequency = Counter(shingle for one in known for shingle in one)
        self._min_similarity = min_similarity
        self._with: dict[str, list[Shingles]] = defaultdict(list)

    def add(self, one: Shingles) -> None:
        for shingle in self._rarest(one):
            self._with[shingle].append(one)

    def has_near(self, one: Shingles) -> bool:
        return any(self._similar(one, other) for other in self._candidates(one))

    def _candidates(self, one: Shingles) -> Iterator[Shingles]:
        for shingle in self._rarest(one):
            yield from self._with.get(shingle, ())[:COMPARED_AT_MOST]

    def _rarest(self, one: Shingles) -> list[str]:
        """As many as two similar sets can't both miss."""
        count = len(one) - int(self._min_similarity * len(one) + 0.9999) + 1 if one else 0
        return sorted(one, key=lambda shingle: (self._frequency[shingle], shingle))[:count]

    def _similar(self, one: Shingles, other: Shingles) -> bool:
        shared = len(one & other)
        return shared >= self._min_similarity * (len(one) + len(other) - shared)


def first_of_each(texts: Sequence[str]) -> list[bool]:
    """Whether each text is kept: not if it is nearly the same as one that is kept before it."""
    sets = [shingles(text) for text in texts]
    index = Index(sets)
    kept = []
    for one in sets:
        is_copy = bool(one) and index.has_near(one)
        kept.append(not is_copy)
        if one and not is_copy:
            index.add(one)
    return kept


def without_copies(texts: Sequence[str], of: Sequence[str]) -> list[bool]:
    """Whether each text is unlike all of `of`."""
    sets, others = [shingles(text) for text in texts], [shingles(text) for text in of]
    index = Index([*sets, *others])
    for other in others:
        index.add(other)
    return [not (one and index.has_near(one)) for one in sets]
