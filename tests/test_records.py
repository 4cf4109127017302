"""The JSONL contract: what is written is what is read, and every fault has one line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from utils import presets, records
from utils.console import UserError
from utils.evaluation import canaries
from utils.records import Record, Source

HOSTILE = '\u2028\u2029\x85\r\n\r\n\x00\x0b\x0c\x1c\ufeff\u202e\u200d👨‍👩‍👧🏽\ud7ff\U0010ffff"\\</s>'

texts = st.text() | st.text(st.sampled_from(HOSTILE))
replies = texts.filter(str.strip)
sources = st.builds(
    Source,
    conversation=texts,
    turn=st.integers(0, 10**6),
    timestamp=texts,
    output_ids=st.tuples(texts),
    confidence=st.floats(0, 1),
)
any_record = st.builds(
    Record,
    instruction=texts,
    input=texts,
    output=replies,
    system=texts,
    history=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    source=sources,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("records") / "train.jsonl"


@given(st.lists(any_record, min_size=1, max_size=4))
@example([Record(instruction=HOSTILE, output=HOSTILE, system=HOSTILE, history=((HOSTILE, HOSTILE),))])
def test_what_is_written_is_read_back_one_line_each(file, written):
    records.write(file, written)
    assert records.read(file) == written
    data = file.read_bytes()
    assert data.count(b"\n") == len(written)
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert [json.loads(line)["output"] for line in data.splitlines()] == [record.output for record in written]


def test_a_hand_made_alpaca_file_of_three_keys_trains(file):
    file.write_text(
        '{"instruction": "tea or coffee?", "input": "", "output": "tea"}\r\n'
        "\n"
        '{"output": "no", "instruction": "sure?", "input": "It is late.", "a key of their own": [1, 2]}\n',
        encoding="utf-8",
    )
    assert records.read(file) == [
        Record(instruction="tea or coffee?", output="tea"),
        Record(instruction="sure?", input="It is late.", output="no"),
    ]


def test_instruction_and_output_alone_suffice(file):
    file.write_bytes(b'{"instruction": "hm?", "output": "hm"}')
    assert records.read(file) == [Record(instruction="hm?", output="hm")]


def test_a_byte_order_mark_is_no_part_of_the_first_record(file):
    file.write_bytes(b'\xef\xbb\xbf{"instruction": "a", "output": "b"}\n')
    assert records.read(file) == [Record(instruction="a", output="b")]


def test_llama_factory_reads_the_history_as_pairs():
    record = Record(instruction="c", output="d", history=(("a", "b"),), system="s")
    plain = json.loads(records.encode(record))
    assert plain["history"] == [["a", "b"]]
    assert list(plain)[:3] == ["instruction", "input", "output"]


def test_text_is_written_as_utf8_and_not_escaped():
    assert "naïve 🍜".encode() in records.encode(Record(instruction="naïve 🍜", output="x"))


GOOD = b'{"instruction": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no records at {file}; prepare_training_data.py makes them"),
        (b"", "{file} holds no records; prepare_training_data.py makes them"),
        (b"\n  \r\n\n", "{file} holds no records; prepare_training_data.py makes them"),
        (GOOD + b"\n" + b'{"instruction": \n', "{file}, line 3: Input data was truncated"),
        (GOOD + b"hello\n", "{file}, line 2: JSON is malformed: invalid character (byte 0)"),
        (b'{"instruction": "a"}\n', "{file}, line 1: Object missing required field `output`"),
        (b'{"output": "a"}\n', "{file}, line 1: Object missing required field `instruction`"),
        (GOOD + b"[1]\n", "{file}, line 2: Expected `object`, got `array`"),
        (
            b'{"instruction": 3, "output": "b"}\n',
            "{file}, line 1: Expected `str`, got `int` - at `$.instruction`",
        ),
        (
            b'{"instruction": "a", "output": "b", "history": [["only a question"]]}\n',
            "{file}, line 1: Expected `array` of length 2 - at `$.history[0]`",
        ),
        (
            GOOD + b'{"instruction": "a", "output": ""}\n',
            "{file}, line 2: the output is empty, so there is nothing to learn from it",
        ),
        (
            b'{"instruction": "a", "output": " \\n\\u00a0"}\n',
            "{file}, line 1: the output is empty, so there is nothing to learn from it",
        ),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path, content, message):
    file = tmp_path / "train.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as error:
        records.read(file)
    assert str(error.value) == message.format(file=file)


@pytest.mark.parametrize(
    "line", [b'{"instruction": "\xff", "output": "b"}', b'{"instruction": "\\ud83d", "output": "b"}']
)
def test_text_that_is_no_unicode_is_refused_with_its_line(tmp_path, line):
    file = tmp_path / "train.jsonl"
    file.write_bytes(GOOD + line + b"\n")
    with pytest.raises(UserError, match=r"train\.jsonl, line 2: "):
        records.read(file)


def test_a_folder_is_no_file_of_records(tmp_path):
    with pytest.raises(UserError) as error:
        records.read(tmp_path)
    assert str(error.value) == f"can't read {tmp_path}: {os.strerror(errno.EISDIR)}"


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_may_never_end_is_not_read(tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(path)
    for read in (records.read, presets.read, canaries.read):
        with pytest.raises(UserError, match=rf"can't read .*{path.name}: it is a pipe or a device, not a file"):
            read(path)


def test_writing_makes_the_folders_on_the_way(tmp_path):
    records.write(tmp_path / "a" / "b" / "train.jsonl", [Record(instruction="a", output="b")])
    assert len(records.read(tmp_path / "a" / "b" / "train.jsonl")) == 1


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"old")

    def disk_full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], disk_full)
    with pytest.raises(OSError, match="No space left"):
        records.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_records_that_fail_while_they_are_made_leave_the_old_file(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"old")

    def faulty():
        yield Record(instruction="a", output="b")
        raise RuntimeError("reader broke")

    with pytest.raises(RuntimeError, match="reader broke"):
        records.write(file, faulty())
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
