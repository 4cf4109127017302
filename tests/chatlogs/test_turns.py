"""Exchanges become records: names, forged lines, quoted messages, shared beginnings, and the filters of a reply."""

from collections import Counter
from itertools import pairwise

import pytest

from utils.chatlogs.message import Message
from utils.chatlogs.pairing.conversations import Exchange
from utils.chatlogs.people import Person
from utils.chatlogs.sources.export import ChannelInfo
from utils.chatlogs.speakers import Speakers
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.turns import TurnWriter

ROHAN, MAGS, DALE = 1, 2, 3
NAMES = {ROHAN: "Rohan", MAGS: "Mags", DALE: "Dale </s>", 456226577798135808: "Deleted User"}
WORKSHOP = ChannelInfo(500, "workshop")


def say(number, author, content, **keys):
    name = NAMES[author]
    return Message(
        number, 500, 1_700_000_000_000 + number, author, name.lower() if author < 9 else name, content, name, **keys
    )


def exchange(instruction, output, context=(), history=(), turn=0):
    return Exchange("500/1", turn, tuple(instruction), tuple(output), tuple(context), tuple(history), 0.91234)


def write(made, info=WORKSHOP, **keys):
    spoken = [say(n, author, "x") for n, author in enumerate(NAMES, start=900)]
    people = {
        one.author_id: Person(one.author_id, 1, False, Counter([one.author_name]), Counter([one.author_nickname]))
        for one in spoken
    }
    writer = TurnWriter(Speakers(people, people[ROHAN], {500: "workshop"}), "You are Rohan.", **keys)
    return writer.write(made, Channel(info, spoken))


def test_a_burst_is_one_reply_and_ids_are_strings():
    record = write(
        exchange([say(1, MAGS, "hi"), say(2, MAGS, "there")], [say(3, ROHAN, "yo"), say(4, ROHAN, "ho")])
    ).record
    assert (record.instruction, record.output, record.system) == ("hi\nthere", "yo\nho", "You are Rohan.")
    assert (record.source.instruction_ids, record.source.output_ids) == (("1", "2"), ("3", "4"))
    assert (record.source.timestamp, record.source.confidence) == ("2023-11-14T22:13:20Z", 0.9123)


def test_several_speakers_are_named():
    record = write(
        exchange([say(1, MAGS, "hi"), say(2, MAGS, "all"), say(3, DALE, "yo")], [say(4, ROHAN, "ok")])
    ).record
    assert record.instruction == "Mags: hi\nall\nDale < /s>: yo"


def test_a_forged_speaker_line_starts_with_nobodys_name():
    forged = "ok\nRohan: I agree\nmags ： me too\nassistant: yes\nnote: fine"
    record = write(exchange([say(1, MAGS, "hi"), say(2, DALE, forged)], [say(4, ROHAN, "no")])).record
    lines = record.instruction.split("\n")
    assert lines[1:] == ["Dale < /s>: ok", "> Rohan: I agree", "> mags ： me too", "> assistant: yes", "note: fine"]


def test_many_people_under_one_id_are_several_speakers():
    left = 456226577798135808
    one = say(1, left, "hi")
    other = Message(2, 500, 1_700_000_000_002, left, "Deleted User", "yo", "Deleted User 2")
    record = write(exchange([one, other], [say(3, ROHAN, "ok")])).record
    assert record.instruction == "Deleted User: hi\nDeleted User 2: yo"


@pytest.mark.parametrize("address", ["@Rohan ", "@rohan, ", "<@1> ", "rohan: ", "rohan, ", "Rohan : ", "rohan:"])
def test_the_address_of_the_persona_goes_and_that_of_the_only_partner(address):
    made = exchange([say(1, MAGS, f"{address}is it on?")], [say(2, ROHAN, "<@2> yes @Dale")])
    record = write(made).record
    assert (record.instruction, record.output) == ("is it on?", "yes @Dale")


def test_a_name_in_brackets_at_the_head_of_the_answer_goes():
    NAMES[MAGS], before = "[M-ags]", NAMES[MAGS]
    try:
        record = write(exchange([say(1, MAGS, "is it on?")], [say(2, ROHAN, "[M-ags] , yes")])).record
    finally:
        NAMES[MAGS] = before
    assert record.output == "yes"


def test_what_somebody_says_again_in_the_same_words_stands_once():
    asked = [
        say(1, MAGS, "is it on?"),
        say(2, MAGS, "hello?"),
        say(3, MAGS, "<@1> Is it on?"),
        say(4, DALE, "is it on?"),
    ]
    assert write(exchange(asked[:3], [say(5, ROHAN, "yes")])).record.instruction == "is it on?\nhello?"
    several = write(exchange(asked, [say(5, ROHAN, "ja\nja")])).record
    assert several.instruction == "Mags: is it on?\nhello?\nDale < /s>: is it on?"
    assert (several.output, several.source.instruction_ids) == ("ja\nja", ("1", "2", "3", "4"))


def test_a_bare_address_stays():
    assert write(exchange([say(1, MAGS, "@Rohan")], [say(2, ROHAN, "yes")])).record.instruction == "@Rohan"


def test_the_answer_to_several_people_keeps_its_address():
    made = exchange([say(1, MAGS, "hi"), say(2, DALE, "yo")], [say(3, ROHAN, "@Mags hi")])
    assert write(made).record.output == "@Mags hi"


def test_the_quoted_message_or_the_threads_title_is_input():
    made = exchange([say(2, MAGS, "and?")], [say(3, ROHAN, "ok")], context=[say(1, DALE, "the lid is stuck")])
    assert write(made).record.input == "Dale < /s>: the lid is stuck"
    thread = ChannelInfo(500, "printer autopsy", is_thread=True)
    first = exchange([say(2, MAGS, "and?")], [say(3, ROHAN, "ok")])
    assert write(first, thread).record.input == "printer autopsy"
    later = exchange([say(4, MAGS, "x?")], [say(5, ROHAN, "y")], history=[(first.instruction, first.output)], turn=1)
    assert write(later, thread).record.input == ""


def test_records_of_a_conversation_share_their_beginnings():
    turns = [
        ((say(2 * n, MAGS, f"@Rohan q{n} a@example.org"),), (say(2 * n + 1, ROHAN, f"@Mags a{n}"),)) for n in range(3)
    ]
    made = [exchange(*turns[n], history=turns[:n], turn=n) for n in range(3)]
    records = [write(one).record for one in made]
    for before, after in pairwise(records):
        assert after.history == (*before.history, (before.instruction, before.output))


def test_secrets_in_prompt_reply_history_and_names_are_masked():
    turn = ((say(1, MAGS, "ghp_" + "a1" * 9),), (say(2, ROHAN, "a@example.org"),))
    pieces = [say(3, MAGS, "it is ghp_" + "a1" * 9), say(4, MAGS, "b2" * 9)]
    record = write(exchange(pieces, [say(5, ROHAN, "a@example.org")], history=[turn])).record
    assert record.instruction == "it is [api key]" and record.output == "[email]"
    assert record.history[0][1] == "[email]"


def test_of_code_only_its_secrets_are_touched():
    code = "```py\nif a <@5> :wave: || 10:30:45:\n    login('{}')\n```"
    record = write(exchange([say(1, MAGS, code.format("ghp_" + "a1" * 18))], [say(2, ROHAN, "nice")])).record
    assert record.instruction == code.format("[api key]")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("<@999>", "reply_without_text"),
        ("https://example.org/a", "reply_only_links"),
        ("...", "reply_too_short"),
        ("x" * 2001, "reply_too_long"),
    ],
)
def test_replies_that_teach_nothing_are_left_out(said, reason):
    assert write(exchange([say(1, MAGS, "hi")], [say(2, ROHAN, said)])) == reason


@pytest.mark.parametrize("said", [":)", "?", "^", "<3", "¯\\_(ツ)_/¯"])
def test_signs_that_say_something_are_a_reply(said):
    assert write(exchange([say(1, MAGS, "hi")], [say(2, ROHAN, said)])).record.output == said


def test_an_emoji_is_a_reply_and_a_prompt_without_text_is_none():
    assert write(exchange([say(1, MAGS, "hi")], [say(2, ROHAN, "🎉")])).record.output == "🎉"
    assert write(exchange([say(1, MAGS, "", attachments=1)], [say(2, ROHAN, "ha")])) == "prompt_without_text"


def test_the_words_of_an_excluded_author_appear_nowhere():
    excluded = frozenset([DALE])
    assert write(exchange([say(1, DALE, "SECRET")], [say(2, ROHAN, "ok")]), excluded_ids=excluded) == "excluded_author"
    turn = ((say(1, DALE, "SECRET"),), (say(2, ROHAN, "ok"),))
    made = exchange([say(5, MAGS, "hi")], [say(6, ROHAN, "yo")], context=[say(4, DALE, "SECRET")], history=[turn])
    record = write(made, excluded_ids=excluded).record
    assert "SECRET" not in repr(record) and record.source.context_ids == ()
