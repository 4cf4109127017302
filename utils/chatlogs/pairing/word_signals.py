"""The evidence of form and words for what a message answers; see signals.py."""

from __future__ import annotations

import numpy as np

from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.evidence import Candidates, Situation, Values


def question_then_statement(s: Situation, c: Candidates) -> Values:
    return 0.0 if "question" in s.view.forms(s.reply) else c.are("question")


def question_then_short_answer(s: Situation, c: Candidates) -> Values:
    return c.are("question") if "short_answer" in s.view.forms(s.reply) else 0.0


def greeting_then_greeting(s: Situation, c: Candidates) -> Values:
    return c.are("greeting") if "greeting" in s.view.forms(s.reply) else 0.0


def candidate_is_thanks(s: Situation, c: Candidates) -> Values:
    return c.are("thanks")


def candidate_is_short(s: Situation, c: Candidates) -> Values:
    return c.are("short")


def candidate_is_command(s: Situation, c: Candidates) -> Values:
    return c.are("command")


def shared_rare_words(s: Situation, c: Candidates) -> Values:
    """Summed rarity of the words in both messages, at most 2."""
    said = s.view.words(s.reply)
    return _rarities(s.view, [said & words for words in c.words])


def topic_words(s: Situation, c: Candidates) -> Values:
    """The same over what the author said just before, and not in the candidate."""
    said = s.view.words(s.reply)
    return _rarities(s.view, [said & words for words in map(s.view.topic, c.indices)])


def _rarities(view: ChannelView, shared: list[frozenset[str]]) -> np.ndarray:
    return np.array([_rarity(view, words) if words else 0.0 for words in shared], dtype=float)


def words_of_personas_last(s: Situation, c: Candidates) -> Values:
    """It takes up rare words of the persona's last message, which came before it."""
    if s.own_before is None:
        return 0.0
    last = s.view.words(s.own_before)
    return np.array(
        [
            0.0 if index < s.own_before or last.isdisjoint(words) else _rarity(s.view, last & words)
            for index, words in zip(c.indices, c.words, strict=True)
        ],
        dtype=float,
    )


def author_takes_up_words(s: Situation, c: Candidates) -> Values:
    """What the author says soon after the reply shares rare words with it."""
    said = s.view.words(s.reply)
    shared = {
        person: _rarity(s.view, said & words) for person, words in s.words_next.items() if not said.isdisjoint(words)
    }
    return np.array([shared.get(person, 0.0) for person in c.people], dtype=float) if shared else 0.0


def _rarity(view: ChannelView, words: frozenset[str]) -> float:
    return min(2.0, sum(map(view.rarity, words)))
