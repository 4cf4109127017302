"""Which of the replies found become records: each filter in turn, with a count of what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from utils.chatlogs.quality.language import in_languages
from utils.chatlogs.quality.near_duplicates import first_of_each
from utils.chatlogs.quality.repetition import cap_repeated
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.turns import Reply


def choose(replies: Sequence[Reply], settings: PrepareSettings) -> tuple[list[Reply], Counter[str]]:
    """The replies that stay, in the same order (of time), and how many went, by reason.

    Of near-duplicates the first stays. Where there are more than MAX_RECORDS, the newest stay: they are nearest to how
    the persona writes now, and their conversations stay whole but for the oldest one.
    """
    dropped: Counter[str] = Counter()
    kept = list(replies)

    def leave(reason: str, staying: list[Reply]) -> list[Reply]:
        dropped[reason] += len(kept) - len(staying)
        return staying

    kept = leave("other_language", in_languages(kept, settings.languages))
    kept = leave("repeated_reply", cap_repeated(kept, settings.max_same_reply))
    if settings.drop_near_duplicates:
        first = first_of_each([reply.record.output for reply in kept])
        kept = leave("near_duplicate", [reply for reply, is_first in zip(kept, first, strict=True) if is_first])
    if settings.max_records is not None:
        kept = leave("over_max_records", kept[-settings.max_records :])
    return kept, +dropped
