"""Pseudonyms: stable, readable, and no real name of anybody but the persona left."""

from collections import Counter

import pytest

from tests.chatlogs.test_turns import DALE, MAGS, ROHAN, WORKSHOP, exchange
from utils.chatlogs.message import Message
from utils.chatlogs.people import Person
from utils.chatlogs.sources.export import ChannelInfo
from utils.chatlogs.speakers import Speakers
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.text.names import EVERYDAY_WORDS, Pseudonyms
from utils.chatlogs.turns import TurnWriter


def person(number, account, nickname="", messages=1):
    return Person(number, messages, False, Counter([account]), Counter([nickname] if nickname else []))


PEOPLE = {
    one.id: one
    for one in [
        person(ROHAN, "rohan", "Rohan"),
        person(MAGS, "mags.kowal", "Mags"),
        person(DALE, "dale_at_the_bench", "★ Dale ★"),
        person(4, "june", "June"),
        person(5, "maximilian", "Max Power", messages=5),
        person(6, "rohan", "Other Rohan"),
        person(7, "jo"),
        person(8, "max power"),
    ]
}


def say(number, author, content):
    return Message(number, 500, 1_700_000_000_000 + number, author, PEOPLE[author].name, content)


@pytest.fixture
def names():
    return Pseudonyms(PEOPLE, PEOPLE[ROHAN])


def test_a_pseudonym_is_a_readable_name_of_its_own_and_always_the_same(names):
    given = [names.name(number) for number in PEOPLE if number != ROHAN]
    assert len(set(given)) == len(given) and all(name.isalpha() and name.istitle() for name in given)
    assert given == [Pseudonyms(PEOPLE, PEOPLE[ROHAN]).name(number) for number in PEOPLE if number != ROHAN]
    real = {name.lower() for one in PEOPLE.values() for name in one.names}
    assert real.isdisjoint(name.lower() for name in given)


def test_a_first_name_and_a_surname_alone_are_names_too():
    people = {1: person(1, "rohan"), 2: person(2, "ak", "Ana Kowal"), 3: person(3, "nn", "the Night Watch")}
    names = Pseudonyms(people, people[1])
    ana = names.name(2)
    assert names.replace("ana? Kowal! ask KOWAL") == f"{ana.lower()}? {ana}! ask {ana.upper()}"
    assert names.replace("a watch in the night") == "a watch in the night"


def test_many_people_get_names_of_their_own():
    people = {number: person(number, f"user{number}") for number in range(20_000)}
    assert len(set(Pseudonyms(people, people[0]).all)) == 19_999


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ask Mags or dale_at_the_bench", "ask {mags} or {dale.lower}"),
        ("mags, MAGS! Mags's lid", "{mags.lower}, {mags.upper}! {mags}'s lid"),
        ("@Mags @dale @june", "@{mags} @{dale.lower} @{june.lower}"),
        ("magstone damages mags2", "magstone damages mags2"),
        ("max power or maximilian or Max Power?", "{max.lower} or {max.lower} or {max}?"),
        ("in june it rains", "in june it rains"),
        ("june: look", "{june.lower}: look"),
        ("jo is jo but @jo is meant", "jo is jo but @{jo.lower} is meant"),
        ("rohan and Rohan stay", "rohan and Rohan stay"),
        ("@everyone @here @rohan ana@example.org @types/node", "@everyone @here @rohan ana@example.org @types/node"),
    ],
)
def test_names_in_a_text(names, text, wanted):
    class Shown(str):
        lower = property(str.lower)
        upper = property(str.upper)

    by_name = {"mags": MAGS, "dale": DALE, "june": 4, "max": 5, "jo": 7}
    shown = {name: Shown(names.name(number)) for name, number in by_name.items()}
    assert names.replace(text) == wanted.format(**shown)


def test_somebody_who_wrote_nothing_is_found_after_an_at(names):
    replaced = names.replace("hi @lurker and @lurker, lurker")
    assert replaced.count("lurker") == 1 and len(set(replaced.split()[1::2][:2])) <= 2


def test_everyday_words_are_lower_case():
    assert EVERYDAY_WORDS and all(word.islower() and word.isalpha() for word in EVERYDAY_WORDS)


def test_no_name_of_others_is_left_in_a_record_even_of_those_excluded(names):
    writer = TurnWriter(
        Speakers(PEOPLE, PEOPLE[ROHAN], {500: "mags and dale"}, names),
        "You are Rohan.",
        excluded_ids=frozenset([DALE]),
    )
    history = [((say(1, MAGS, "<@1> hi, <@3> said so"),), (say(2, ROHAN, "mags: Dale said what, <@2>?"),))]
    made = exchange(
        [say(4, MAGS, "@Rohan is <#500> on? ask mags.kowal"), say(5, 4, "dale knows, Rohan\nMags: yes")],
        [say(6, ROHAN, "@Dale @Mags ok, I, Rohan, am in")],
        context=[say(3, MAGS, "who is dale_at_the_bench")],
        history=history,
    )
    reply = writer.write(made, Channel(WORKSHOP, []))
    record = reply.record
    text = repr((record.instruction, record.input, record.output, record.history, reply.partner)).lower()
    assert not [name for name in ("mags", "kowal", "dale", "bench", "june") if name in text]
    assert record.output.endswith("ok, I, Rohan, am in") and "Rohan" in record.instruction
    mags, june = names.name(MAGS), names.name(4)
    assert record.instruction.startswith(f"{mags}: ") and f"\n{june}: " in record.instruction
    assert f"\n> {mags}: yes" in record.instruction and reply.partner == june
    assert f"@{names.name(DALE)}" in record.output


def test_a_threads_title_loses_its_names_too(names):
    writer = TurnWriter(Speakers(PEOPLE, PEOPLE[ROHAN], {}, names), "x")
    thread = ChannelInfo(500, "for mags and rohan", is_thread=True)
    record = writer.write(exchange([say(1, MAGS, "hi")], [say(2, ROHAN, "ok")]), Channel(thread, [])).record
    assert record.input == f"for {names.name(MAGS).lower()} and rohan"
