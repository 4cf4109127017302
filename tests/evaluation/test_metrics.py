"""Metrics of generated text against values computed by hand, and chrF against sacrebleu."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.evaluation import metrics, style
from utils.evaluation.generated import compare_replies
from utils.evaluation.results import Answered, Reply
from utils.records import Record, Source

WORDS = st.text(alphabet="abc é😀\n.", max_size=12)
MESSAGES = ["have you tried sudo apt-get update", "whats the output of lspci", "its the same as before", "gah, typo"]


def chrf(pairs) -> float:
    return float(metrics.chrf(np.sum([metrics.chrf_counts(guess, truth) for guess, truth in pairs], axis=0)))


def answered(texts: list[str], *, truths: list[str] | None = None, base: list[str] | None = None, ended: bool = True):
    truths = truths or texts
    return [
        Answered(
            record=Record(instruction=f"QUESTION {index}?!", output=truth, source=Source(conversation=f"c/{index}")),
            base=Reply(base[index], 3, True, 0.1) if base else None,
            tuned=Reply(text, 3, ended, 0.1),
        )
        for index, (text, truth) in enumerate(zip(texts, truths, strict=True))
    ]


def by_name(found):
    return {each.metric: each for each in found}


def test_rep_4_by_hand():
    assert metrics.rep_4("a b c d") == 0
    assert metrics.rep_4("a b c d a b c d") == pytest.approx(1 - 4 / 5)
    assert metrics.rep_4("no no no no no no no") == pytest.approx(1 - 1 / 4)
    assert metrics.rep_4("three words only") is None


def test_distinct_2_by_hand():
    assert metrics.distinct_2(["a b a b"], words=4) == pytest.approx(2 / 3)
    assert metrics.distinct_2(["a b", "a b"], words=4) == pytest.approx(1 / 2)
    assert metrics.distinct_2(["a b", "b a"], words=4) == 1  # no bigram across two replies
    assert metrics.distinct_2(["a b c d", "a b a b"], words=4) == 1  # the first four words
    assert metrics.distinct_2(["a", ""], words=4) is None


def test_unigram_f1_by_hand():
    assert metrics.unigram_f1("i like cats", "i really like dogs") == pytest.approx(4 / 7)
    assert metrics.unigram_f1("The cat!", "a CAT") == 1
    assert metrics.unigram_f1("no no no", "no") == pytest.approx(0.5)
    assert metrics.unigram_f1("", "no") == metrics.unigram_f1("yes", "no") == 0


@settings(max_examples=150)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_chrf_is_what_sacrebleu_computes(pairs):
    sacrebleu = pytest.importorskip("sacrebleu")
    guesses, truths = zip(*pairs, strict=True)
    assert chrf(pairs) == pytest.approx(sacrebleu.corpus_chrf(list(guesses), [list(truths)]).score, abs=1e-9)


def test_chrf_of_chat_is_what_sacrebleu_computes():
    sacrebleu = pytest.importorskip("sacrebleu")
    guesses = MESSAGES[1:] + MESSAGES[:1]
    expected = sacrebleu.corpus_chrf(guesses, [MESSAGES]).score
    assert 5 < expected < 50
    assert chrf(zip(guesses, MESSAGES, strict=True)) == pytest.approx(expected, abs=1e-9)


def test_cosine_of_style_by_hand():
    assert style.cosine(["abc"], ["abc"]) == pytest.approx(1)
    assert style.cosine(["abc", "abc"], ["abc"]) == pytest.approx(1)
    assert style.cosine(["abc"], ["xyz"]) == 0
    assert style.cosine(["abc"], [""]) == 0
    # " abc " has the 3-grams " ab", "abc", "bc "; " abd " shares the first: 1 / (sqrt 3 * sqrt 3)
    assert style.cosine(["abc"], ["abd"]) == pytest.approx(1 / 3)


def test_likeness_is_the_difference_of_two_cosines():
    generated, persona, others = ["have you tried", "its a typo"], MESSAGES, ["WHY?!", "IT IS BROKEN"]
    statistic = style.likeness(generated, ["a", "b"], persona, others)
    expected = style.cosine(generated, persona) - style.cosine(generated, others)
    assert statistic(np.ones((1, 2)))[0] == pytest.approx(expected)
    first = style.cosine(generated[:1], persona) - style.cosine(generated[:1], others)
    assert statistic(np.array([[2.0, 0.0]]))[0] == pytest.approx(first)


def test_style_is_reported_where_the_persona_stands_out():
    persona = [f"{text} {number}" for number in range(15) for text in MESSAGES]
    loud = [f"WHY IS {number} BROKEN?!" for number in range(60)]
    assert style.separates(persona, loud, seed=0)
    assert not style.separates(persona[:49], loud, seed=0)
    assert not style.separates(persona[::2] + persona[1::2], persona[1::2] + persona[::2], seed=0)


def test_style_tells_the_persona_from_somebody_else():
    persona = [f"{text} {number}" for number in range(15) for text in MESSAGES]
    found = by_name(compare_replies(answered(persona, base=[text.upper() for text in persona]), seed=0))["style"]
    assert found.tuned > found.base + 0.3
    assert found.interval.low > 0
    assert "style" not in by_name(compare_replies(answered(persona[:49]), seed=0))


def test_a_model_that_says_nothing_or_never_stops_is_seen():
    texts, base = ["", "go on", "no no no no no no no", "yes"], ["sure", "go on", "a b c d e f g", "yes"]
    found = by_name(compare_replies(answered(texts, truths=MESSAGES, base=base, ended=False), seed=0))
    assert (found["empty replies"].base, found["empty replies"].tuned) == (0, 0.25)
    assert (found["cut at the length limit"].base, found["cut at the length limit"].tuned) == (0, 1)
    assert found["repetition (rep-4)"].tuned == pytest.approx(0.75)
    assert found["repetition (rep-4)"].base == 0
    assert found["length ratio"].tuned == pytest.approx(sum(map(len, texts)) / sum(map(len, MESSAGES)))
    assert found["variety (distinct-2)"].interval is None
    assert list(found)[-2:] == ["unigram F1", "chrF"]  # the weak ones stand last


def test_a_perfect_copy_overlaps_fully():
    found = by_name(compare_replies(answered(MESSAGES), seed=0))
    assert found["unigram F1"].tuned == 1
    assert found["chrF"].tuned == pytest.approx(100)
    assert found["chrF"].base is None
    assert found["chrF"].interval is None
