"""A data package without exports: nothing to answer, unless somebody asks for continuations."""

import json

import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from tests.chatlogs.test_data_package import ROOM, package
from utils import records
from utils.chatlogs.message import Message
from utils.chatlogs.pairing import continuations
from utils.console import UserError


def message(number, seconds):
    return Message(number, 5, int(seconds * 1000), 7, "rohan", f"line {number}")


def test_a_message_answers_the_one_before_it_in_its_burst():
    said = [message(number, seconds) for number, seconds in enumerate([0, 10, 20, 500, 900, 1000])]
    found = continuations.build(said, burst_gap_seconds=180)
    assert [(one.instruction[0].id, one.output[0].id, one.conversation, one.turn) for one in found] == [
        (0, 1, "5/0", 0),
        (1, 2, "5/0", 1),
        (4, 5, "5/4", 0),
    ]
    assert {one.confidence for one in found} == {0.0} and not any(one.history or one.context for one in found)


@pytest.fixture
def alone(tmp_path):
    """A package whose room holds 12 bursts of three messages."""
    root = package(tmp_path / "package")
    rows = [
        {"ID": files.FIRST_ID + 3 * day + n, "Timestamp": f"2024-05-{day + 1:02} 18:00:{n}0", "Contents": f"{day} {n}"}
        for day in range(12)
        for n in range(3)
    ]
    (root / "messages" / f"c{ROOM}" / "messages.json").write_text(json.dumps(rows))
    return root


def prepare(source, out, *flags):
    prepare_training_data.main(["--source", str(source), "--persona", "rohan", "--output-dir", str(out), *flags])


def test_a_package_alone_is_one_line_that_says_what_to_do(alone, tmp_path):
    with pytest.raises(UserError, match=r"only Rohan's own .* no prompts.* export the channels .*--continuations"):
        prepare(alone, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_continuations_are_made_where_asked_for_and_warned_of(alone, tmp_path, capsys):
    out = tmp_path / "out"
    prepare(alone, out, "--continuations")
    train = records.read(out / "train.jsonl")
    assert ("0 0", "0 1") in {(record.instruction, record.output) for record in train}
    assert {record.source.confidence for record in train} == {0.0}
    report = json.loads((out / "report.json").read_text())
    assert "only continue Rohan's own message" in report["warnings"][0]
    assert "they teach tone and spelling" in capsys.readouterr().err


def test_beside_exports_the_channels_without_them_are_named(alone, tmp_path, capsys):
    files.write(alone / "general.json", files.conversations(12))
    prepare(alone, tmp_path / "out")
    assert "channels only Rohan's own messages are here" in capsys.readouterr().err
    assert all("question" in record.instruction for record in records.read(tmp_path / "out" / "train.jsonl"))
