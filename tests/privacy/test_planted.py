"""10,000 planted values of which none survives, and 10,000 ordinary lines that lose nothing."""

from __future__ import annotations

import json
import random
import re
import time
import unicodedata
import urllib.parse
from pathlib import Path

import pytest

from tests.privacy import ordinary, planted
from utils.chatlogs import speakers
from utils.chatlogs.text import cleaning
from utils.privacy import masking

COUNT = 10_000
IRC = Path(__file__).parents[2] / "../shared/data/ubuntu-irc"
REAL_LINES = 5_000
# The lines of the sample that do hold something personal, read by hand: addresses of somebody's machines and network
# (nine lines) and a password of digits that somebody typed into the channel (the fifth).
PERSONAL = frozenset(
    (
        *("1000000459900825890", "1000000434115812102", "1000000243084432671", "1000000378779120631"),
        *("1000000358375971159", "1000000459625506041", "1000000460028594024", "1000000459440840796"),
        *("1000000358807344893", "1000000459881886146"),
    )
)


def survivors(seed: int) -> list[planted.Planted]:
    left = []
    for one in planted.planted(COUNT, seed):
        masked, found = masking.mask(one.text)
        if not found or any(piece in masked for piece in one.pieces):
            left.append(one)
    return left


def changed(lines: list[str]) -> list[tuple[str, str]]:
    return [(line, masked) for line in lines if (masked := masking.mask(line)[0]) != line]


def test_no_planted_value_survives():
    assert survivors(seed=0) == []


def as_read(text: str) -> str:
    """Without what a disguise adds, written independently of the detector."""
    text = unicodedata.normalize("NFKC", urllib.parse.unquote(text))
    return re.sub(r"[\u200b-\u200d\u2060\ufe0f\ufeff\u00ad\\*|\s\u2010-\u2015\u2212-]", "", text)


def test_no_planted_value_survives_in_disguise():
    left = []
    for one in planted.planted_in_disguise(COUNT):
        cleaned = cleaning.clean(one.text, lambda _: "", lambda _: "")
        value = as_read(one.pieces[0])
        quarter = len(value) // 4  # of a login, or a link, the ends may stay
        masked, found = masking.mask(cleaned)
        if not found or value[quarter : quarter + max(6, len(value) // 2)] in as_read(masked):
            left.append((one, masked))
    assert left == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("so **ana@example.org** it is", "so **[email]** it is"),
        ("ana@exam**ple.org**, ok", "[email]**, ok"),
        ("x ||+49 151 ||23456789 y", "x ||[phone] y"),
        ("１９２.７９.１７４.１１９です", "[ip]です"),
        ("https://example.org/?to=ana%40example.org&x=1", "https://example.org/?to=[email]&x=1"),
        ("DE89 3704 0044 0532 0130 00".replace(" ", "\u2007"), "[iban]"),
        ("—–BEGIN RSA PRIVATE KEY—–\nabc\n—–END RSA PRIVATE KEY—–", "[private key]"),
        ("https://example.org/?key=AbCdEfGh1jKlMnOp2rStUvWx3zAbCdEfGh4jKl5n", "https://example.org/?key=[api key]"),
        ("AKIA\u200dABCDEFGHIJKLMNOP\\_x", "[api key]\\_x"),
    ],
)
def test_what_becomes_of_a_disguised_value(text, masked):
    assert masking.mask(text)[0] == masked


def test_the_planted_values_are_of_every_kind_and_differ():
    made = list(planted.planted(COUNT))
    assert {one.kind for one in made} == set(planted.MAKERS)
    assert len({one.pieces for one in made}) > 0.95 * COUNT
    assert all(piece in one.text for one in made for piece in one.pieces)


def test_ordinary_lines_lose_nothing():
    lines = list(ordinary.ordinary(COUNT))
    assert len(set(lines)) > 0.8 * COUNT
    assert changed(lines) == []


@pytest.mark.parametrize(
    "around", ["**{}**", "||{}||", "❤️ {} ☺️", "https://site.test/?q={%}", "{　}", "ok — {} – yes", "\\*{}\\*"]
)
def test_ordinary_lines_marked_up_lose_nothing(around):
    lines = []
    for line in ordinary.ordinary(COUNT // 7, seed=7):
        filled = around.replace("{}", line).replace("{%}", urllib.parse.quote(line, safe=""))
        lines.append(filled.replace("{　}", line.replace(" ", "\u3000")))
    assert changed(lines) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_neither_do_others(seed):
    assert survivors(seed) == [] and changed(list(ordinary.ordinary(COUNT, seed))) == []


@pytest.mark.skipif(not IRC.exists(), reason="the real chat is not there")
def test_real_lines_lose_nothing_but_what_is_personal():
    rng = random.Random(0)
    files = rng.sample(sorted(IRC.glob("*.json")), 10)
    messages = [m for file in files for m in json.loads(file.read_text(encoding="utf-8"))["messages"]]
    spoken = [m for m in messages if m["type"] in ("Default", "Reply")]
    lost = {m["id"]: m["content"] for m in rng.sample(spoken, REAL_LINES) if masking.mask(m["content"])[1]}
    assert {number: text for number, text in lost.items() if number not in PERSONAL} == {}


REPEATED = [
    *(
        "a",
        "A",
        "0",
        "1",
        " ",
        "\n",
        ".",
        ":",
        "-",
        "_",
        "@",
        "/",
        "+",
        "=",
        "`",
        "<",
        "[",
        "(",
        "|",
        "*",
        "é",
        "日",
        "\u202e",
        "🎉",
    ),
    *(
        "1 ",
        "4 ",
        "0 ",
        "+1",
        "1-",
        "1.",
        "a@",
        "a.",
        "::",
        "a:",
        "1:",
        "A1",
        "eyJ",
        "-eyJ",
        "_eyJa.",
        "sk-",
        "-sk-",
        "MTEw.",
        "://",
        "http://",
    ),
    *(
        "http://a?",
        "a://b:",
        "x:y@",
        "at ",
        "a at ",
        " dot ",
        "password: ",
        "my number is ",
        "DE89 ",
        "\n1",
        "\nA",
        "-----BEGIN PRIVATE KEY-----",
    ),
    *(
        "<@",
        "<t:1",
        "</a",
        "<a:",
        "@everyone",
        "[INST",
        "``",
        "```",
        "x`",
        "discord.gg/",
        "cdn.discordapp.com/",
        "0 7",
        "4111 ",
        "a'",
    ),
]


@pytest.mark.parametrize("piece", REPEATED)
def test_time_is_linear_in_the_text(piece):
    def nobody(_: int) -> str:
        return ""

    calls = {
        "clean": lambda text: cleaning.clean(text, nobody, nobody),
        "mask": masking.mask,
        "clean_name": speakers.clean_name,
        "is_only_links": cleaning.is_only_links,
        "split_control_tokens": cleaning.split_control_tokens,
        "remove_invisible": cleaning.remove_invisible,
    }
    for length, seconds in ((4_000, 0.4), (40_000, 4.0)):
        text = piece * (length // len(piece))
        for name, call in calls.items():
            start = time.process_time()
            call(text)
            assert time.process_time() - start < seconds, (name, length)
