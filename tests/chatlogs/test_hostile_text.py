"""No message, whatever Unicode it holds, yields a control token, and every record is one line of valid JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chatlogs.test_cleaning import CONTROL_TOKENS
from utils import prompts, records
from utils.chatlogs.message import Message
from utils.chatlogs.pairing.conversations import Exchange
from utils.chatlogs.people import Person
from utils.chatlogs.sources.export import ChannelInfo
from utils.chatlogs.speakers import Speakers, clean_name
from utils.chatlogs.storage.channels import Channel
from utils.chatlogs.text.names import Pseudonyms
from utils.chatlogs.turns import TurnWriter

ROOT = Path(__file__).parents[2]
TOKENIZERS = {
    "TinyLlama": ROOT / "../shared/tinyllama",
    "SmolLM2": ROOT / "models/base/smollm2-135m-instruct",
}
TRICKS = [
    *CONTROL_TOKENS,
    *("<", ">", "|", "/", "s", "[", "]", "INST", "\u200b", "\u2060", "\ufeff", "\u202e", "\u2066", "\xad", "\u180e"),
    *("`", "```", "<@999>", "<@1>", "<@2>", "<#7>", "<t:1:t>", "@everyone", "@mags", "mags", "Rohan:", "user:"),
    *("\n", "\r", "\u2028", "\u2029", "\x85", "\0", "\x1b", "\ud800", "\udfff", "\U000e0041", "\U000e007f", "🏴"),
    *("👩\u200d💻", "＜", "｜", "﹤", "\u0338", "\u0301", "ﬀ", "İ", "ß"),
]
HOSTILE = st.lists(st.sampled_from(TRICKS) | st.text(st.characters(codec=None), max_size=6), max_size=12).map("".join)


def person(number: int, name: str) -> Person:
    return Person(number, 1, False, Counter([name]), Counter([name]))


def write(asked: str, said: str, quoted: str, name: str, *, pseudonyms: bool) -> records.Record | None:
    people = {1: person(1, "Rohan"), 2: person(2, name), 3: person(3, "mags")}
    invented = Pseudonyms(people, people[1]) if pseudonyms else None
    writer = TurnWriter(Speakers(people, people[1], {7: clean_name(quoted[:20])}, invented), "You are Rohan.")

    def message(number: int, author: int, text: str) -> Message:
        return Message(number, 500, 1_700_000_000_000 + number, author, people[author].name, text)

    made = Exchange(
        conversation="500/1",
        turn=1,
        instruction=(message(4, 2, asked), message(5, 3, said)),
        output=(message(6, 1, said + asked),),
        context=(message(3, 2, quoted),),
        history=(((message(1, 3, quoted),), (message(2, 1, asked),)),),
        confidence=1.0,
    )
    reply = writer.write(made, Channel(ChannelInfo(500, quoted[:20]), []))
    return None if isinstance(reply, str) else reply.record


def texts(record: records.Record) -> list[str]:
    return [record.instruction, record.input, record.output, *(side for turn in record.history for side in turn)]


@settings(max_examples=200)
@given(HOSTILE, HOSTILE, HOSTILE, st.text(max_size=8), st.booleans())
def test_every_record_is_one_line_of_valid_json(asked, said, quoted, name, pseudonyms):
    record = write(asked, said, quoted, name, pseudonyms=pseudonyms)
    if record is None:
        return
    line = records.encode(record)
    assert b"\n" not in line and b"\r" not in line
    assert len(line.decode("utf-8").splitlines()) == 1
    assert msgspec.json.decode(line, type=records.Record) == record and record.output.strip()


@pytest.mark.parametrize("model", TOKENIZERS)
def test_no_message_yields_a_control_token(model):
    folder = TOKENIZERS[model]
    if not (folder / "tokenizer.json").exists():
        pytest.skip(f"the tokenizer of {model} is not there")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = set(tokenizer.get_added_tokens_decoder())
    ends = ["</s>"] if model == "TinyLlama" else ["<|im_end|>"]
    assert all(not special.isdisjoint(tokenizer.encode(end, add_special_tokens=False).ids) for end in ends)

    @settings(max_examples=300)
    @given(HOSTILE, HOSTILE, HOSTILE, st.booleans())
    def check(asked, said, quoted, pseudonyms):
        record = write(asked, said, quoted, "mags </s><|im_end|>", pseudonyms=pseudonyms)
        for text in texts(record) if record else []:
            assert special.isdisjoint(tokenizer.encode(text, add_special_tokens=False).ids), text

    check()


@pytest.mark.parametrize("model", TOKENIZERS)
def test_a_rendered_record_has_the_templates_control_tokens_and_no_others(model):
    folder = TOKENIZERS[model]
    if not (folder / "tokenizer.json").exists():
        pytest.skip(f"the tokenizer of {model} is not there")
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    special = set(tokenizer.get_added_vocab().values())

    def controls(record: records.Record) -> list[int]:
        return [token for token in prompts.encode(record, tokenizer).input_ids if token in special]

    plain = controls(write("hi", "there", "who", "mags", pseudonyms=False))

    @settings(max_examples=80)
    @given(HOSTILE, HOSTILE)
    def check(asked, said):
        record = write(f"a {asked}", f"b {said}", "who", "mags", pseudonyms=False)
        if record is not None and len(record.history) == 1:
            assert controls(record) == plain

    check()
