"""Other people in ready-made examples: their names, their words, and what --forget and EXCLUDE_AUTHORS take out."""

import json

import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from utils import records
from utils.chatlogs import examples
from utils.chatlogs.people import Person
from utils.chatlogs.storage import database
from utils.console import UserError
from utils.records import Record, Source

SETS = ("train", "validation", "test")
DALE_IN_A_FILE = 1_400_000_000_000_000_000


def example(number, asked, said="sure", **keys):
    return {"instruction": asked, "output": f"{said}, number {number} of the list", **keys}


def prepare(folder, lines, *flags, exports=True):
    """12 conversations of mags with rohan as an export, and the examples; the prepared records and all bytes."""
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "mine.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    if exports:
        files.write(folder / "raw" / "a.json", files.conversations(12))
    out = folder / "out"
    prepare_training_data.main(
        ["--source", str(folder / "raw"), "--persona", "rohan", "--output-dir", str(out), *flags]
    )
    return prepared(folder)


def prepared(folder):
    made = [one for name in SETS for one in records.read(folder / "out" / f"{name}.jsonl")]
    return made, b"".join(path.read_bytes() for path in (folder / "out").iterdir())


def stored(folder):
    with database.connect(folder / "out.duckdb", read_only=True) as connection:
        return str(connection.execute("SELECT found FROM reading").fetchall()) + str(
            connection.execute("SELECT * FROM messages").fetchall()
        )


def forget(folder, *ids):
    prepare_training_data.main(["--output-dir", str(folder / "out"), "--forget", *map(str, ids)])


SEVERAL = "Zebedee: is quibble on?\nWill: zebedee knows\nMags: ask quibble_99, @Ottoline"


def test_pseudonyms_reach_labels_mentions_and_names_in_the_text(tmp_path):
    lines = [example(n, SEVERAL + f" {n}", history=[["Quibble_99: a\nZebedee: b", "c, Zebedee"]]) for n in range(8)]
    lines += [example(n, "Error: no such file", input="Ottoline: who?") for n in range(8)]
    made, everything = prepare(tmp_path, lines, "--names", "pseudonyms")
    assert not [name for name in (b"zebedee", b"quibble_99", b"ottoline", b"will:") if name in everything.lower()]
    several = next(one for one in made if "is quibble on?" in one.instruction)
    first, second, third = (line.partition(":")[0] for line in several.instruction.split("\n"))
    assert f"{second}: {first.lower()} knows" in several.instruction and several.history[0][1] == f"c, {first}"
    mags = {one.input.partition(":")[0] for one in made if one.input} | {third}
    assert len({first, second, third}) == 3 and len(mags) == 2 and b"Error: no such file" in everything


def test_the_same_person_has_one_pseudonym_in_exports_and_examples(tmp_path):
    lines = [example(n, f"Dale: hi {n}\nMags: @mags is me") for n in range(4)]
    files.write(
        tmp_path / "raw" / "b.json", [files.message(900, "dale", "hm"), files.reply(901, "rohan", "@mags hm", 900)]
    )
    made, _ = prepare(tmp_path, lines, "--names", "pseudonyms")
    answer = next(one.output for one in made if one.output.endswith(" hm"))
    label = next(one.instruction.split("\n")[1] for one in made if "\n" in one.instruction)
    assert label == f"{label.partition(':')[0]}: {answer.removesuffix(' hm').lower()} is me"


def test_what_cannot_be_known_is_said(tmp_path, capsys):
    prepare(tmp_path, [example(n, f"hi {n}") for n in range(4)], "--names", "pseudonyms", "--exclude-authors", "mags")
    assert "NAMES and EXCLUDE_AUTHORS can't know everybody in ready-made examples" in capsys.readouterr().err


def test_an_excluded_speakers_words_appear_nowhere(tmp_path):
    secret = "the kazoo is hidden"
    lines = [example(n, f"question {n}?") for n in range(9)]
    lines += [example(20, f"Will: hm\nzebedee: {secret}"), example(21, "hm?", input=f"Zebedee: {secret}")]
    lines += [example(22, "hm?", history=[[f"Zebedee: {secret}\nWill: no", "what?"], ["and?", "yes"]])]
    made, everything = prepare(tmp_path, lines, "--exclude-authors", "Zebedee", exports=False)
    assert b"kazoo" not in everything and b"ebedee:" not in everything
    assert [one.history for one in made if "22" in one.output] == [(("and?", "yes"),)]
    assert not [one for one in made if "number 20" in one.output]


def test_an_excluded_persons_unnamed_words_are_found_by_their_ids(tmp_path):
    source = {"conversation": "500/1", "instruction_ids": [str(files.FIRST_ID + 500)]}
    files.write(tmp_path / "raw" / "b.json", [files.message(500, "dale", "kazoo?"), files.message(501, "mags", "no")])
    lines = [example(1, "kazoo?", source=source)]
    lines += [example(2, "and?", history=[["kazoo?", lines[0]["output"]]])]
    made, everything = prepare(tmp_path, lines, "--exclude-authors", "dale")
    assert b"kazoo" not in everything and [one.history for one in made if one.instruction == "and?"] == [()]


def source_of(*, instruction=(), output=(), context=()):
    return {
        "conversation": "7/1",
        "instruction_ids": [str(DALE_IN_A_FILE + one) for one in instruction],
        "output_ids": [str(DALE_IN_A_FILE + one) for one in output],
        "context_ids": [str(DALE_IN_A_FILE + one) for one in context],
    }


@pytest.mark.parametrize("exports", [True, False])
def test_a_forgotten_message_of_an_example_is_gone_for_good(tmp_path, capsys, exports):
    lines = [example(n, f"question {n}?") for n in range(9)]
    lines += [example(20, "kazoo one?", source=source_of(instruction=[1], output=[2]))]
    lines += [example(21, "and?", history=[["kazoo one?", lines[-1]["output"]]])]
    lines += [example(22, "hm?", input="Dale: kazoo one?", source=source_of(context=[1]))]
    prepare(tmp_path, lines, exports=exports)
    forget(tmp_path, DALE_IN_A_FILE + 1)
    assert "removed 0 messages and 1 of 12 ready-made examples from" in capsys.readouterr().out
    for _ in range(2):
        made, everything = prepared(tmp_path)
        assert b"kazoo" not in everything and "kazoo" not in stored(tmp_path)
        assert {one.history for one in made if one.instruction == "and?"} == {()}
        assert [one.source.context_ids for one in made if one.instruction == "hm?"] == [()]
        prepare(tmp_path, [*lines, example(23, "new?")], exports=exports)  # read again, and still forgotten
    with pytest.raises(UserError, match="is the id of no person and no message"):
        forget(tmp_path, DALE_IN_A_FILE + 9)


def test_a_forgotten_person_leaves_the_examples_that_name_them(tmp_path, capsys):
    files.write(
        tmp_path / "raw" / "b.json", [files.message(500, "dale/Dale W", "kazoo?"), files.reply(501, "rohan", "a", 500)]
    )
    lines = [example(n, f"question {n}?") for n in range(9)] + [example(20, "DALE W: kazoo two\nWill: hm")]
    lines += [example(21, "kazoo?", source={"instruction_ids": [str(files.FIRST_ID + 500)]})]
    prepare(tmp_path, lines)
    forget(tmp_path, files.PEOPLE["dale"])
    assert "removed 1 message, all that one person wrote, and 2 of 11 ready-made examples" in capsys.readouterr().out
    for extra in (24, 25):
        _, everything = prepared(tmp_path)
        assert b"kazoo" not in everything and "kazoo" not in stored(tmp_path)
        prepare(tmp_path, [*lines, example(extra, "new?")])


def test_who_was_excluded_can_be_forgotten(tmp_path, capsys):
    files.write(
        tmp_path / "raw" / "b.json", [files.message(500, "dale", "kazoo?"), files.reply(501, "rohan", "a", 500)]
    )
    before, _ = prepare(tmp_path, [example(1, "hi")], "--exclude-authors", "dale")
    forget(tmp_path, files.PEOPLE["dale"])
    after, _ = prepared(tmp_path)
    assert len(after) == len(before) and f"0 of {len(before)} records are out of" in capsys.readouterr().out


ROHAN = Person(1)


@pytest.mark.parametrize(
    ("turn", "names"),
    [
        ("Dale: hi", ["Dale"]),
        ("Dale: hi\nNote: x\nmags_: y", ["Dale", "mags_"]),
        ("well\nDale: hi", []),  # the first line names nobody, so no line does
        ("May: hi", []),
        ("May: hi\nDale: ok", ["May", "Dale"]),
        ("https://example.org", []),
        ("user: hi\nassistant: x", []),
        ("it is a long sentence: yes", []),
        ("10:30 is fine", []),
        ("Мария： привет", ["Мария"]),
    ],
)
def test_who_speaks_in_a_turn(turn, names):
    found = examples.speakers([Record(instruction=turn, output="x")], {}, ROHAN)
    assert [person.name for person in found.values()] == names
    alone = Record(instruction=turn, output="x", source=Source(instruction_ids=("5",)))
    assert examples.speakers([alone], {}, ROHAN) == {}
