"""prepare_training_data.py from its flags to its files."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from utils import console, records
from utils.console import UserError

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data/sample"
SETS = ("train", "validation", "test")


@pytest.fixture
def export(tmp_path):
    messages = files.conversations(12)
    number = len(messages)
    messages.append(files.message(number, "helperbot", "beep", seconds=200))
    messages.append(files.message(number + 1, "dale", "Joined the server.", type="GuildMemberJoin", seconds=201))
    messages.append(files.message(number + 2, "dale", "mail dale@example.org", seconds=6 * 3600 + 200))
    messages.append(files.reply(number + 3, "rohan", "ok <@999>, ghp_" + "a1" * 18, number + 2, seconds=6 * 3600 + 210))
    files.write(tmp_path / "raw" / "S - c - bench [500].json", messages)
    return tmp_path / "raw"


def prepare(source, out, *flags):
    prepare_training_data.main(["--source", str(source), "--persona", "rohan", "--output-dir", str(out), *flags])
    return {name: records.read(out / f"{name}.jsonl") for name in SETS}


def test_an_export_becomes_three_sets_and_a_report(export, tmp_path, capsys):
    out = tmp_path / "out"
    sets = prepare(export, out)
    report = json.loads((out / "report.json").read_text())
    assert report["replies"]["records"] == sum(map(len, sets.values())) >= 20
    assert report["messages"]["bot"] == 1 and report["messages"]["system"] == 1
    assert report["masked"] == {"api key": 1, "email": 1}
    for name in SETS:
        data = (out / f"{name}.jsonl").read_bytes()
        assert report["sets"][name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert report["sets"][name]["records"] == len(sets[name]) == data.count(b"\n")
    record = sets["train"][0]
    assert record.instruction.startswith("question 0.0") and record.output == "the long one, number 0.0, behind the fan"
    assert "Rohan" in record.system and record.source.output_ids == (str(files.FIRST_ID + 1),)
    newest = [max(one.source.timestamp for one in sets[name]) for name in SETS]
    assert newest == sorted(newest)
    printed = capsys.readouterr().out
    assert "written by bots" in printed and "Three records" in printed and "dale@example.org" not in printed
    assert "question" not in (out / "report.json").read_text()


def test_the_same_input_gives_the_same_bytes(export, tmp_path):
    first = tmp_path / "out"
    prepare(export, first)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    prepare(export, first)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before and len(before) == 5


@pytest.mark.parametrize("names", ["keep", "pseudonyms"])
def test_two_machines_give_the_same_bytes(export, tmp_path, names):
    """Another process, another order of hashing and of the files on the disk, a store of its own."""
    files.write(export / "S - c - shed [600].json", files.conversations(4), channel=600)
    made = []
    for seed in ("1", "2"):
        home = tmp_path / seed
        (home / "raw").mkdir(parents=True)
        for path in sorted(export.iterdir(), reverse=seed == "2"):
            shutil.copy(path, home / "raw")
        flags = ["--source", "raw", "--persona", "rohan", "--output-dir", "out", "--names", names]
        subprocess.run(
            [sys.executable, ROOT / "prepare_training_data.py", *flags],
            cwd=home,
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": f"UTC{seed}"},
            capture_output=True,
            check=True,
        )
        made.append({path.name: path.read_bytes() for path in (home / "out").iterdir()})
    assert made[0] == made[1] and len(made[0]) == 5


def test_a_dry_run_writes_nothing(export, tmp_path, capsys):
    flags = ["--source", str(export), "--persona", "rohan", "--output-dir", str(tmp_path / "out"), "--dry-run"]
    prepare_training_data.main(flags)
    assert not (tmp_path / "out").exists() and "nothing was written" in capsys.readouterr().out


def test_only_liked_replies_where_asked(export, tmp_path):
    with pytest.raises(UserError, match="too few"):
        prepare(export, tmp_path / "out", "--min-reactions", "1")


def test_excluded_authors_and_the_system_prompt(export, tmp_path):
    sets = prepare(export, tmp_path / "out", "--exclude-authors", "dale", "--system-prompt", "Be brief.")
    everything = b"".join((tmp_path / "out" / f"{name}.jsonl").read_bytes() for name in SETS)
    assert b"mail" not in everything and sets["test"][0].system == "Be brief."


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--source", "nowhere", "--persona", "rohan"], "there is no file or folder at nowhere"),
        (["--persona", "rohn"], "nobody called 'rohn' wrote in these exports; did you mean rohan"),
        ([], "no persona chosen: set PERSONA in prepare_training_data.py, or pass --persona"),
        (["--persona", "rohan", "--test-share", "0.9"], "--test-share: expected `float` <= 0.4"),
        (["--persona", "rohan", "--persna", "x"], "unknown setting --persna; did you mean --persona?"),
        (["--persona", "rohan", "--min-confidence", "1", "--min-reply-words", "99"], "are too few"),
        (["--persona", "rohan", "--exclude-authors", "nobody"], "nobody called 'nobody' wrote"),
        (["--persona", "rohan", "--exclude-authors", "rohan"], "the persona can't be among EXCLUDE_AUTHORS"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(export, tmp_path, flags, line):
    source = [] if "--source" in flags else ["--source", str(export)]
    with pytest.raises(UserError) as error:
        prepare_training_data.main([*source, *flags, "--output-dir", str(tmp_path / "out")])
    assert line in str(error.value) and not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_one_line(export, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match=r"can't write to .*out"):
        prepare(export, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "x"


@pytest.mark.parametrize("name", ["loop", "n" * 300])
def test_an_output_folder_that_can_not_be_is_one_line(export, tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(
        UserError, match=r"can't write to .*; set OUTPUT_DIR, or pass --output-dir|names up to 255 bytes"
    ):
        prepare(export, tmp_path / name)


@pytest.mark.parametrize("output", [".", "..", "/", "raw", "raw/prepared", "link/prepared"])
def test_an_output_folder_among_other_things_is_refused(export, tmp_path, monkeypatch, output):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/raw").symlink_to(export)
    (tmp_path / "work/link").symlink_to(export)
    monkeypatch.chdir(tmp_path / "work")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        UserError, match=r"is the folder that you are in|lies in the source .*, so its records would be"
    ):
        prepare("raw", Path(output))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_truncated_part_is_warned_of_and_reported(export, tmp_path, capsys):
    whole = next(export.iterdir()).read_bytes()
    (export / "S - c - bench [500] [part 2].json").write_bytes(whole[:-700])
    prepare(export, tmp_path / "out")
    (warning,) = json.loads((tmp_path / "out" / "report.json").read_text())["warnings"]
    assert "[part 2].json is cut off in or before the message at byte" in warning
    assert "is cut off" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_files_whose_names_are_no_utf_8_are_read_and_named(export, tmp_path, capsys):
    whole = next(export.iterdir()).read_bytes()
    folder = tmp_path / "alt\udce9"
    folder.mkdir()
    (folder / "S - caf\udce9 [501].json").write_bytes(whole[:-700])
    (folder / "S - caf\udce9 [502].csv").write_text("AuthorID,Author,Date,Content,Attachments,Reactions\n", "utf-8")
    (folder / "caf\udce9.jsonl").write_text('{"instruction": "what?", "output": "the lid, of course"}\n' * 3, "utf-8")
    (folder / "caf\udce9.json").write_text("garbage")
    sets = prepare(folder, tmp_path / "out")
    assert "caf�" in (tmp_path / "out/report.json").read_text("utf-8") and sum(map(len, sets.values())) > 20
    assert prepare(folder, tmp_path / "out") == sets
    assert "is cut off" in capsys.readouterr().err


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\r", "\r\n", "\x85", "\x0c", "\0", "</s>", "<|im_end|>"])
def test_hostile_text_is_still_one_record_a_line(tmp_path, char):
    messages = files.conversations(4)
    for message in messages:
        message["content"] = message["content"].replace(" ", f" {char} ", 1)
    files.write(tmp_path / "raw" / "a.json", messages)
    prepare(tmp_path / "raw", tmp_path / "out")
    for name in SETS:
        data = (tmp_path / "out" / f"{name}.jsonl").read_bytes()
        for line in data.decode("utf-8").splitlines():
            text = msgspec.json.decode(line, type=records.Record)
            assert char not in text.instruction + text.output


def test_help_is_quick_and_imports_no_torch():
    code = "import sys, prepare_training_data as p\ntry: p.main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "--persona" in done.stdout and done.stdout.endswith("False\n")


def test_a_mistake_ends_in_one_line_and_exit_code_2(tmp_path):
    command = [sys.executable, ROOT / "prepare_training_data.py", "--source", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: there is no file") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not (SAMPLE / "PLANTED.json").exists(), reason="data/sample is not there")
def test_nothing_planted_in_the_sample_survives(tmp_path):
    prepare(SAMPLE, tmp_path / "out")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir()).decode()
    planted = json.loads((SAMPLE / "PLANTED.json").read_text())["planted"]
    assert planted and not [one["kind"] for one in planted if one["value"] in everything]


@pytest.mark.skipif(not SAMPLE.exists(), reason="data/sample is not there")
def test_a_test_too_small_for_a_verdict_is_said_before_anybody_trains(tmp_path, capsys):
    prepare(SAMPLE, tmp_path / "out", "--test-share", "0.1")
    printed = capsys.readouterr().out
    share = re.search(r"from 30 on; --test-share (\S+) would hold out about enough", printed)[1]
    assert printed.endswith(f"then {console.python()} train_tinyllama.py --data-dir {tmp_path / 'out'}\n")
    sets = prepare(SAMPLE, tmp_path / "out", "--test-share", share)
    assert len({record.source.conversation for record in sets["test"]}) >= records.ENOUGH_CONVERSATIONS
    assert "whether training helped" not in capsys.readouterr().out


@pytest.mark.skipif(not SAMPLE.exists(), reason="data/sample is not there")
def test_unasked_a_test_is_large_enough_for_a_verdict_where_a_quarter_is(tmp_path, capsys):
    sets = prepare(SAMPLE, tmp_path / "out")
    assert len({record.source.conversation for record in sets["test"]}) >= records.ENOUGH_CONVERSATIONS
    assert "whether training helped" not in capsys.readouterr().out


def test_where_even_the_largest_share_is_too_small_it_takes_a_longer_history(export, tmp_path, capsys):
    prepare(export, tmp_path / "out", "--test-share", "0.3")
    assert "from 30 on; that takes a longer history" in capsys.readouterr().out
