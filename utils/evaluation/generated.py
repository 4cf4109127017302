"""Base and tuned model by what they wrote: degeneration, style, length, and last the overlap with the true replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from utils.evaluation import metrics, style
from utils.evaluation.bootstrap import Statistic, conversation_sums, ratio, resample_weights
from utils.evaluation.comparisons import comparison
from utils.evaluation.contexts import conversation_names
from utils.evaluation.results import Answered, Better, Comparison, Reply


def compare_replies(answered: Sequence[Answered], seed: int) -> list[Comparison]:
    """All metrics of generated text, with intervals from a paired bootstrap over conversations.

    A metric that nothing can be said about is left out: style with fewer than 50 messages or where the persona's real
    text does not stand out from the other speakers', repetition when every reply is shorter than four words.
    """
    conversations = conversation_names([each.record for each in answered])
    weights = resample_weights(len(set(conversations)), seed)
    truths = [each.record.output for each in answered]
    tuned = [each.tuned for each in answered]
    base = [each.base for each in answered if each.base is not None]

    def compared(
        name: str, statistic: Callable[[Sequence[Reply]], Statistic], better: Better | None, meaning: str
    ) -> Comparison:
        return comparison(name, statistic(tuned), statistic(base) if base else None, weights, better, meaning)

    def mean(value: Callable[[Reply, str], float | None]) -> Callable[[Sequence[Reply]], Statistic]:
        def statistic(replies: Sequence[Reply]) -> Statistic:
            found = [value(reply, truth) for reply, truth in zip(replies, truths, strict=True)]
            return ratio(
                [0.0 if each is None else each for each in found], [each is not None for each in found], conversations
            )

        return statistic

    def length_ratio(replies: Sequence[Reply]) -> Statistic:
        return ratio([len(reply.text) for reply in replies], list(map(len, truths)), conversations)

    def chrf(replies: Sequence[Reply]) -> Statistic:
        counts = [metrics.chrf_counts(reply.text, truth) for reply, truth in zip(replies, truths, strict=True)]
        sums = conversation_sums(counts, conversations)
        return lambda resampled: metrics.chrf(resampled @ sums)

    found = [
        compared(
            "repetition (rep-4)",
            mean(lambda reply, _: metrics.rep_4(reply.text)),
            "lower",
            "share of a reply's four-word sequences that it said before",
        ),
        _distinct(base, tuned),
        compared(
            "empty replies", mean(lambda reply, _: float(not reply.text.strip())), "lower", "share of the replies"
        ),
        compared(
            "cut at the length limit", mean(lambda reply, _: float(not reply.ended)), "lower", "share of the replies"
        ),
        *_style(answered, conversations, compared, seed),
        compared(
            "length ratio", length_ratio, None, "characters written by characters of the true replies; 1 is alike"
        ),
        compared(
            "unigram F1",
            mean(lambda reply, truth: metrics.unigram_f1(reply.text, truth)),
            "higher",
            "weak: words shared with the true reply; a good answer in other words scores nothing",
        ),
        compared("chrF", chrf, "higher", "weak: characters shared with the true replies, from 0 to 100"),
    ]
    return [each for each in found if not np.isnan(each.tuned)]


def _distinct(base: Sequence[Reply], tuned: Sequence[Reply]) -> Comparison:
    """A resample holds conversations twice and has fewer distinct bigrams for that alone, so there is no interval."""
    pools = [[reply.text for reply in replies] for replies in (base, tuned) if replies]
    words = min(sum(len(text.split()) for text in pool) for pool in pools)
    found = [metrics.distinct_2(pool, words) for pool in pools]
    return Comparison(
        "variety (distinct-2)",
        tuned=np.nan if found[-1] is None else found[-1],
        base=found[0] if len(found) == 2 else None,
        better="higher",
        meaning=f"share of different word pairs in the first {words} words that each model wrote",
    )


def _style(
    answered: Sequence[Answered],
    conversations: Sequence[str],
    compared: Callable[..., Comparison],
    seed: int,
) -> list[Comparison]:
    persona = [each.record.output for each in answered]
    others = [each.record.instruction for each in answered]
    if not style.separates(persona, others, seed):
        return []
    real = 1 - style.cosine(persona, others)
    return [
        compared(
            "style",
            lambda replies: style.likeness([reply.text for reply in replies], conversations, persona, others),
            "higher",
            f"nearer to how the persona writes than to how the others do; the persona's own replies get {real:.2f}",
        )
    ]
