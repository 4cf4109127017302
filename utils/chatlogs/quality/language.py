"""The language of a conversation. One message is too short to tell: all that a conversation's records hold is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from utils.chatlogs.turns import Reply
from utils.console import UserError

MIN_LETTERS = 40  # a conversation with fewer tells nothing, and stays
MIN_CONFIDENCE = 0.5  # 0 to 1: a conversation that is less sure to be in another language stays, too
READ_CHARACTERS = 4000  # enough of each conversation


def in_languages(replies: Sequence[Reply], languages: Sequence[str]) -> list[Reply]:
    """The replies of conversations in one of the languages (ISO 639-1: en, de, ...), and of those that don't tell.

    Raises UserError for a language that can't be told.
    """
    if not languages:
        return list(replies)
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    unknown = [language for language in languages if language not in identifier.labels]
    if unknown:
        raise UserError(
            f"LANGUAGES holds {unknown[0]!r}, which is no code of a language that can be told: en, de, fr, ..."
        )
    texts: dict[str, list[str]] = defaultdict(list)
    for reply in replies:
        texts[reply.record.source.conversation] += [reply.record.instruction, reply.record.output]
    kept = set()
    for conversation, said in texts.items():
        text = "\n".join(said)[:READ_CHARACTERS]
        if sum(map(str.isalpha, text)) >= MIN_LETTERS:
            language, confidence = identifier.classify(text)
            if language not in languages and confidence >= MIN_CONFIDENCE:
                continue
        kept.add(conversation)
    return [reply for reply in replies if reply.record.source.conversation in kept]
