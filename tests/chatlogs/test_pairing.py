"""The pairing signals one by one, and the ranking that weighs them."""

import math
import subprocess
import sys

import numpy as np
import pytest

from utils.chatlogs.message import Message
from utils.chatlogs.pairing import own_signals, scorer, signals, situations, word_signals
from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.message_forms import forms_of
from utils.chatlogs.pairing.weights import WEIGHTS

PERSONA, ANN, BEN, CAT = 1, 2, 3, 4
NAMES = {PERSONA: "Piet", ANN: "Annika", BEN: "Benno", CAT: "Catrin"}


def chat(*lines, **extra):
    """Messages from (second, author, text) or (second, author, text, {fields}), with ids 100, 101, ..."""
    messages = []
    for number, (second, author, text, *fields) in enumerate(lines):
        values = {
            "id": 100 + number,
            "channel_id": 9,
            "unix_ms": second * 1000,
            "author_id": author,
            "author_name": NAMES.get(author, f"user{author}"),
            "content": text,
        }
        messages.append(Message(**(values | extra | (fields[0] if fields else {}))))
    return messages


def scene(lines, reply):
    """The persona's message at index `reply`, its earlier ones decided by the weights, and its candidates by kind."""
    view = ChannelView(chat(*lines), 60)
    indices = [i for i, m in enumerate(view.messages) if m.author_id == PERSONA]
    for situation, replies, owns in situations.in_order(view, indices):
        if situation.reply == reply:
            return situation, replies, owns
        link = scorer.explicit_link(view, situation.reply) or scorer.rank(situation, replies, owns, WEIGHTS)
        scorer.note(situation, link)
    raise AssertionError("no such reply")


def to(*users):
    return {"mentions": users}


Q, A = (0, ANN, "how do I mount a stick?"), (9, PERSONA, "use the mount command")
ADDRESSED = [Q, (5, BEN, "nice weather"), (9, PERSONA, "@Annika use mount", to(ANN))]
NAMED = [Q, (5, BEN, "nice weather"), (9, PERSONA, "annika: use mount")]
SECOND_ROUND = [Q, (9, PERSONA, "@Annika use mount", to(ANN)), (20, ANN, "it fails"), (30, PERSONA, "as root?")]

SIGNAL_CASES = [  # signal, lines, reply, candidate that gains, candidate that does not
    (signals.reply_mentions_author, ADDRESSED, 2, 0, 1),
    (signals.reply_names_author, NAMED, 2, 0, 1),
    (signals.reply_addresses_another, ADDRESSED, 2, 1, 0),
    (signals.candidate_mentions_persona, [(0, ANN, "@Piet hm?", to(PERSONA)), (1, BEN, "x"), A], 2, 0, 1),
    (signals.candidate_names_persona, [(0, PERSONA, "hi"), (1, ANN, "Piet: hm?"), (2, BEN, "x"), A], 3, 1, 2),
    (signals.candidate_addresses_another, [(0, ANN, "@Benno hm?", to(BEN)), (1, BEN, "x"), A], 2, 0, 1),
    (
        signals.candidate_turned_to_persona,
        [(0, ANN, "@Piet hm?", to(PERSONA)), (1, ANN, "it beeps"), (2, BEN, "x"), A],
        3,
        1,
        2,
    ),
    (
        signals.candidate_turned_to_another,
        [(0, ANN, "@Benno hm?", to(BEN)), (1, ANN, "it beeps"), (2, CAT, "x"), A],
        3,
        1,
        2,
    ),
    (signals.latest_from_addressed, [Q, (3, ANN, "please"), (9, PERSONA, "@Annika yes", to(ANN))], 2, 1, 0),
    (signals.author_replies_back, [Q, (5, BEN, "x"), A, (12, ANN, "which?", {"reply_to": 102})], 2, 0, 1),
    (signals.another_answers_back, [Q, (5, BEN, "x"), A, (12, ANN, "@Piet which?", to(PERSONA))], 2, 1, 0),
    (
        signals.persona_addresses_author_later,
        [Q, (5, BEN, "x"), A, (12, PERSONA, "@Annika as root", to(ANN))],
        2,
        0,
        1,
    ),
    (
        signals.unaddressed_then_mentioned,
        [(0, ANN, "@Piet hm?", to(PERSONA)), (1, BEN, "x"), A],
        2,
        0,
        1,
    ),
    (signals.author_is_partner_by_turns, [*SECOND_ROUND[:3], (25, BEN, "x"), (30, PERSONA, "root?")], 4, 2, 3),
    (signals.persona_addressed_since, [Q, (5, BEN, "@Piet hm?", to(PERSONA)), A], 2, 0, 1),
    (signals.previous_message_then_short, [Q, (5, BEN, "x"), (9, PERSONA, "yes")], 2, 1, 0),
    (signals.new_from_current_partner, SECOND_ROUND, 3, 2, 0),
    (
        word_signals.words_of_personas_last,
        [*SECOND_ROUND[:2], (20, ANN, "that mount fails"), (25, BEN, "x"), (30, PERSONA, "as root?")],
        4,
        2,
        3,
    ),
    (word_signals.author_takes_up_words, [Q, (5, BEN, "x"), A, (12, ANN, "the mount command fails")], 2, 0, 1),
    (signals.author_speaks_next, [Q, (5, BEN, "x"), A, (12, ANN, "which?")], 2, 0, 1),
    (signals.author_turns_away, [Q, (5, BEN, "x"), A, (12, ANN, "@Benno ha", to(BEN))], 2, 0, 1),
    (signals.is_previous_message, [Q, (5, BEN, "x"), A], 2, 1, 0),
    (signals.previous_message_in_quiet, [Q, (5, BEN, "x"), A], 2, 1, 0),
    (signals.after_personas_last_in_quiet, SECOND_ROUND, 3, 2, 0),
    (signals.message_gap, [Q, (5, BEN, "x"), A], 2, 0, 1),
    (signals.time_gap, [Q, (9, BEN, "x"), A], 2, 0, 1),
    (signals.author_spoke_after, [Q, (5, ANN, "please"), A], 2, 0, 1),
    (signals.persona_spoke_after, SECOND_ROUND, 3, 0, 2),
    (signals.before_personas_last, SECOND_ROUND, 3, 0, 2),
    (signals.addressed_message_gap, [Q, (5, BEN, "x"), (9, PERSONA, "@Annika yes", to(ANN))], 2, 0, 1),
    (signals.is_authors_first, [Q, (5, ANN, "please"), A], 2, 0, 1),
    (signals.continues_in_burst, [Q, (5, ANN, "please"), A], 2, 0, 1),
    (
        signals.answered_and_addressed,
        [Q, (9, PERSONA, "@Annika use mount", to(ANN)), (20, ANN, "it fails"), (30, PERSONA, "@Annika?", to(ANN))],
        3,
        0,
        2,
    ),
    (signals.author_is_current_partner, [*SECOND_ROUND[:3], (25, BEN, "x"), (30, PERSONA, "root?")], 4, 2, 3),
    (signals.author_is_recent_partner, [*SECOND_ROUND[:3], (25, BEN, "x"), (30, PERSONA, "root?")], 4, 2, 3),
    (signals.new_from_partner, SECOND_ROUND, 3, 2, 0),
    (signals.old_from_partner, SECOND_ROUND, 3, 0, 2),
    (word_signals.question_then_statement, [Q, (5, BEN, "x"), A], 2, 0, 1),
    (word_signals.question_then_short_answer, [Q, (5, BEN, "x"), (9, PERSONA, "yes of course")], 2, 0, 1),
    (word_signals.greeting_then_greeting, [(0, ANN, "hello"), (5, BEN, "x"), (9, PERSONA, "hi!")], 2, 0, 1),
    (word_signals.candidate_is_thanks, [(0, ANN, "thanks a lot to you"), (5, BEN, "x"), A], 2, 0, 1),
    (word_signals.candidate_is_short, [Q, (5, BEN, "hm ok"), A], 2, 1, 0),
    (word_signals.candidate_is_command, [(0, ANN, "!help mount"), (5, BEN, "x"), A], 2, 0, 1),
    (word_signals.shared_rare_words, [Q, (5, BEN, "something else"), A], 2, 0, 1),
    (word_signals.topic_words, [Q, (5, ANN, "please please"), (6, BEN, "x"), A], 3, 1, 2),
    (own_signals.own_bias, [A, (12, PERSONA, "or fuse")], 1, 0, None),
    (
        own_signals.own_same_addressee,
        [*ADDRESSED, (12, PERSONA, "@Annika or fuse", to(ANN))],
        3,
        2,
        None,
    ),
    (own_signals.own_addressee_spoke_after, SECOND_ROUND, 3, 1, None),
    (
        own_signals.own_same_addressee_silent,
        [*ADDRESSED, (12, PERSONA, "@Annika or fuse", to(ANN))],
        3,
        2,
        None,
    ),
    (own_signals.own_interrupted_in_quiet, [A, (12, BEN, "x"), (20, PERSONA, "b"), (21, PERSONA, "c")], 3, 0, 2),
    (own_signals.own_within_burst, [A, (800, PERSONA, "a"), (900, PERSONA, "b")], 2, 1, 0),
    (own_signals.own_reply_addresses, [A, (12, PERSONA, "@Annika or fuse", to(ANN))], 1, 0, None),
    (own_signals.own_says_you, [A, (12, PERSONA, "have you tried")], 1, 0, None),
    (own_signals.own_is_command, [A, (12, PERSONA, "!mount")], 1, 0, None),
    (own_signals.own_greets_or_thanks, [A, (12, PERSONA, "thanks all")], 1, 0, None),
    (own_signals.own_short_answer, [A, (12, PERSONA, "yes it does")], 1, 0, None),
    (
        own_signals.own_addressed_after,
        [A, (12, BEN, "@Piet no", to(PERSONA)), (13, PERSONA, "b"), (14, PERSONA, "c")],
        3,
        0,
        2,
    ),
    (own_signals.own_correction, [A, (12, PERSONA, "*mount")], 1, 0, None),
]


@pytest.mark.parametrize("case", SIGNAL_CASES, ids=lambda case: case[0].__name__)
def test_signal(case):
    signal, lines, reply, gains, does_not = case
    situation, *kinds = scene(lines, reply)
    [candidates] = [found for found in kinds if gains in found.indices]
    values = np.broadcast_to(signal(situation, candidates), len(candidates.indices))
    value = dict(zip(candidates.indices, values, strict=True))
    assert value[gains] > 0
    if does_not is not None:
        assert value[gains] > value[does_not]


@pytest.mark.parametrize(
    ("signal", "speaks", "silent"),
    [
        (own_signals.opening_bias, "anything", None),
        (own_signals.opening_unaddressed_by_habit, "use mount", "@Annika use mount"),
        (own_signals.opening_is_first, "use mount", None),
        (own_signals.opening_is_question, "does anybody know mount?", "use mount"),
        (own_signals.opening_greets, "hello all", "use mount"),
        (own_signals.opening_is_command, "!mount", "use mount"),
        (own_signals.opening_says_you, "you should use mount", "use mount"),
        (own_signals.opening_length, "a long story " * 9, ""),
    ],
)
def test_opening_signal(signal, speaks, silent):
    def value(text):
        mentions = to(ANN) if text.startswith("@") else {}
        lines = [(0, BEN, "@Annika x", to(ANN)), (9, PERSONA, text, mentions)]
        return signal(scene(lines, 1)[0])

    assert value(speaks) > 0
    if silent is not None:
        assert value(silent) == 0


def test_every_weighted_signal_has_a_test():
    tested = {case[0] for case in SIGNAL_CASES}
    tested |= {getattr(own_signals, name) for name in dir(own_signals) if name.startswith("opening_")}
    assert set(WEIGHTS.reply) | set(WEIGHTS.own) | set(WEIGHTS.opening) == tested


def test_probabilities_sum_to_one():
    view = ChannelView(chat(*SECOND_ROUND, (31, CAT, "x")), 60)
    for link in scorer.link_messages(view, [1, 3], WEIGHTS):
        assert math.isclose(sum(link.replies.values()) + sum(link.continues.values()) + link.opens, 1.0)


def test_a_second_process_links_the_same(monkeypatch):
    """Cut where the persona was silent for long, so that what it had to do with anybody before doesn't matter."""
    rounds = [(second + 3000 * number, *rest) for number in range(9) for second, *rest in SECOND_ROUND]
    view = ChannelView(chat(*rounds), 60)
    own = [index for index, message in enumerate(view.messages) if message.author_id == PERSONA]
    alone = list(scorer.link_messages(view, own, WEIGHTS))
    monkeypatch.setattr(scorer, "SHARED_MESSAGES", 2)
    assert list(scorer.link_messages(view, own, WEIGHTS)) == alone and [link.index for link in alone] == own
    for indices in ([], own[:2]):  # no such silence
        assert list(scorer.link_messages(view, indices, WEIGHTS)) == alone[: len(indices)]


def test_explicit_reply_wins_over_mention_and_session_gap():
    lines = [
        Q,
        (90_000, BEN, "x"),
        (90_009, CAT, "y"),
        (90_010, PERSONA, "@Benno use mount", to(BEN) | {"reply_to": 100}),
    ]
    [link] = scorer.link_messages(ChannelView(chat(*lines), 60), [3], WEIGHTS)
    assert link.explicit
    assert link.best_reply() == 0


def test_explicit_reply_to_a_missing_message_falls_to_the_scorer():
    lines = [Q, (5, BEN, "x"), (9, PERSONA, "@Annika use mount", to(ANN) | {"reply_to": 7})]
    [link] = scorer.link_messages(ChannelView(chat(*lines), 60), [2], WEIGHTS)
    assert not link.explicit
    assert link.best_reply() == 0


def test_bots_system_texts_and_forwards_are_no_candidates():
    lines = [Q, *((5, BEN, "x", {flag: True}) for flag in ("is_bot", "is_system", "is_forward")), A, (10, CAT, "y")]
    [link] = scorer.link_messages(ChannelView(chat(*lines), 60), [4], WEIGHTS)
    assert set(link.replies) == {0}


def test_deleted_users_and_webhooks_are_told_apart_by_name():
    deleted = {"author_name": "Deleted User", "author_id": 456}
    view = ChannelView(
        chat(
            (0, 7, "a", deleted | {"author_nickname": "one"}),
            (1, 7, "b", deleted | {"author_nickname": "two"}),
            (2, 8, "c", {"is_bot": True, "author_name": "relay one"}),
            (3, 8, "d", {"is_bot": True, "author_name": "relay two"}),
            (4, ANN, "e", {"author_name": "before"}),
            (5, ANN, "f", {"author_name": "after"}),
        ),
        60,
    )
    assert len(set(view.person)) == 5
    assert view.person[4] == view.person[5]


def test_a_nickname_that_is_a_common_word_is_a_name_only_at_the_head():
    talk = [(i, BEN, "the linux box") for i in range(1, 40)]
    view = ChannelView(chat((0, 50, "hi", {"author_name": "linux"}), *talk, (50, ANN, "linux: hm?")), 60)
    assert view.named[20] == ()
    assert view.named[-1] == (view.person[0],)


def test_forms():
    assert "question" in forms_of("<@5> how is it")
    assert {"thanks", "short"} <= forms_of("@Piet thanks!")
    assert forms_of("") == {"short"}


def test_timestamps_out_of_order_do_not_crash():
    lines = [(50, ANN, "how?"), (9, PERSONA, "so"), (5, BEN, "x"), (2, PERSONA, "y")]
    assert len(list(scorer.link_messages(ChannelView(chat(*lines), 60), [1, 3], WEIGHTS))) == 2


def test_long_messages_are_quick():
    lines = [(i, ANN + i % 2, letter * 4000) for i, letter in enumerate("a@<!?: " * 4)]
    view = ChannelView(chat(*lines, (40, PERSONA, "@" * 4000)), 60)
    assert len(list(scorer.link_messages(view, [len(lines)], WEIGHTS))) == 1


def test_imports_neither_pandas_nor_torch():
    code = "import sys, utils.chatlogs.pairing.conversations; print({'pandas', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
