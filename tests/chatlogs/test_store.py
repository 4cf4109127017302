"""One row per message, newest export first; made again only on a change; whole after kill -9; able to forget."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from tests.chatlogs import stored
from utils import records
from utils.chatlogs import second_process
from utils.chatlogs.message import Message
from utils.chatlogs.sources import discord_json, readers
from utils.chatlogs.sources.export import ChannelInfo, Export
from utils.chatlogs.storage import database, history, store
from utils.console import UserError

SETS = ("train", "validation", "test")


@pytest.fixture
def raw(tmp_path):
    messages = files.conversations(12) + [
        message | {"id": str(int(message["id"]) + 1000), "content": f"kazoo {number}"}
        for number, message in enumerate(files.conversations(4, partner="dale"))
    ]
    for message in messages[-16:]:
        if "reference" in message:
            target = str(int(message["reference"]["messageId"]) + 1000)
            message["reference"] = message["reference"] | {"messageId": target}
    files.write(tmp_path / "raw" / "a.json", messages)
    return tmp_path / "raw"


def prepare(raw, *flags):
    out = raw.parent / "out"
    prepare_training_data.main(["--source", str(raw), "--persona", "rohan", "--output-dir", str(out), *flags])
    return {path.name: path.read_bytes() for path in out.iterdir()}


def rows(path, query):
    with database.connect(path, read_only=True) as connection:
        return connection.execute(query).fetchall()


def say(number, content, author=2, channel=5, **keys):
    return Message(number, channel, 1000 * number, author, "x", content, **keys)


# What is in it --------------------------------------------------------------------------------------------------------


def test_the_newest_export_wins_and_then_the_latest_file():
    exports = [
        Export(ChannelInfo(5, "new"), [say(1, "new"), say(2, "new")], exported_at_ms=9),
        Export(ChannelInfo(5, "old"), [say(2, "old"), say(3, "first")], exported_at_ms=8),
        Export(ChannelInfo(5, "old"), [say(3, "later"), say(3, "last")], exported_at_ms=8),
    ]
    (channel,), copies = stored.gather(exports)
    assert [(m.id, m.content) for m in channel.messages] == [(1, "new"), (2, "new"), (3, "last")]
    assert channel.info.name == "new" and copies == 3


def test_every_field_comes_back_as_it_went_in():
    largest = 2**64 - 3
    message = Message(
        largest,
        5,
        2**62,
        largest,
        "x",
        "\0 🎉 \u2028",
        mentions=(1, largest),
        reply_to=largest,
        is_bot=True,
        reactions=4,
    )
    (channel,), _ = stored.gather([Export(ChannelInfo(5), [message, say(1, "")])])
    assert channel.messages == [say(1, ""), message]


def test_what_no_column_holds_is_left_out_or_mended():
    strange = [say(2**70, "x"), say(-1, "x"), say(1, "lone \ud83d"), say(2, "x", reactions=10**30, mentions=(-5, 7))]
    (channel,), left_out = stored.gather([Export(ChannelInfo(5), strange)])
    assert [m.content for m in channel.messages] == ["lone �", "x"] and left_out == 2
    assert channel.messages[1].mentions == (7,)


def test_a_channel_or_server_whose_id_no_column_holds():
    exports = [
        Export(ChannelInfo(2**64), [say(1, "x", channel=2**64)]),
        Export(ChannelInfo(5, guild_id=-1), [say(1, "y")]),
    ]
    (channel,), left_out = stored.gather(exports)
    assert (channel.info.id, channel.info.guild_id, left_out) == (5, 0, 1)


# When it is made ------------------------------------------------------------------------------------------------------


def test_unchanged_exports_are_not_read_again(raw, monkeypatch):
    first = prepare(raw)
    monkeypatch.setattr(readers, "stream", None)
    assert prepare(raw) == first


def test_more_exports_are_added_and_what_is_gone_leaves(raw):
    path = raw.parent / "out.duckdb"
    first = prepare(raw)
    files.write(raw / "b.json", [files.message(0, "mags", "a kettle")], channel=501)
    prepare(raw)
    assert rows(path, "SELECT count(DISTINCT channel_id) FROM messages") == [(2,)]
    (raw / "b.json").unlink()
    assert prepare(raw) == first
    assert rows(path, "SELECT count(DISTINCT channel_id) FROM messages") == [(1,)]


def test_a_dry_run_makes_no_store_and_uses_one_that_is_there(raw, monkeypatch):
    prepare_training_data.main(["--source", str(raw), "--persona", "rohan", "--output-dir", "out", "--dry-run"])
    assert not list(raw.parent.glob("*.duckdb")) and not Path("out.duckdb").exists()
    prepare(raw)
    monkeypatch.setattr(readers, "stream", None)
    prepare(raw, "--dry-run")


def test_what_is_no_store_and_what_another_run_holds_is_one_line(raw):
    path = raw.parent / "out.duckdb"
    path.write_bytes(b"notes" * 5000)
    with pytest.raises(UserError, match=r"out\.duckdb"):
        prepare(raw)
    assert path.read_bytes() == b"notes" * 5000


def test_a_reader_that_fails_leaves_the_old_store(raw, monkeypatch):
    prepare(raw)
    path = raw.parent / "out.duckdb"
    before = path.read_bytes()
    (raw / "a.json").write_text("{}")
    with pytest.raises(UserError, match="no export could be read"):
        prepare(raw)
    assert path.read_bytes() == before and not list(raw.parent.glob(".*"))


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
@pytest.mark.parametrize("limit_bytes", [20_000, 200_000, 400_000, 700_000])
def test_a_disk_that_is_full_leaves_the_old_store_and_the_old_records(raw, limit_bytes):
    """A limit on the size of a file stands for the full disk: both fail a write in its middle."""
    import resource

    before = prepare(raw), (raw.parent / "out.duckdb").read_bytes()
    document = files.document(files.conversations(300))
    (raw / "b.json").write_text(json.dumps(document), encoding="utf-8")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, former[1]))
    try:
        with pytest.raises(UserError, match=r"can't (use|write) .*File too large"):
            prepare(raw)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    after = {path.name: path.read_bytes() for path in (raw.parent / "out").iterdir()}
    assert (after, (raw.parent / "out.duckdb").read_bytes()) == before
    assert not list(raw.parent.glob(".*"))


@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.3, 0.6, 0.9, 0.999999])
def test_a_store_that_is_cut_off_is_one_line_and_stays(raw, share):
    prepare(raw)
    path = raw.parent / "out.duckdb"
    part = path.read_bytes()[: int(share * path.stat().st_size)]
    path.write_bytes(part)
    with pytest.raises(UserError, match=r"the store .* is damaged .*; delete it, and the exports make it again"):
        prepare(raw)
    assert path.read_bytes() == part


@pytest.mark.parametrize("make", ["CREATE TABLE mine AS SELECT 1", "SELECT 1"])
def test_another_database_is_not_taken_for_a_store(raw, make):
    path = raw.parent / "out.duckdb"
    with database.connect(path) as connection:
        connection.execute(make)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is no store of messages"):
        prepare(raw)
    assert path.read_bytes() == before


def test_a_file_of_another_database_fetches_nothing_from_the_network(raw):
    with contextlib.closing(sqlite3.connect(raw.parent / "out.duckdb")) as other:
        other.execute("CREATE TABLE mine (a)")
    with pytest.raises(UserError) as error:
        prepare(raw)
    assert "http" not in str(error.value)


@pytest.mark.parametrize("name", ["what?", "back\\slash", "bytes\udcff"])
@pytest.mark.skipif(os.name != "posix", reason="no such names elsewhere")
def test_a_name_that_duckdb_reads_in_its_own_way_is_refused(raw, name):
    with pytest.raises(UserError, match="a path for DuckDB has no"):
        prepare_training_data.main(["--source", str(raw), "--persona", "rohan", "--output-dir", str(raw.parent / name)])
    assert not list(raw.parent.glob(".*")) and not (raw.parent / "what").exists()


def test_two_runs_do_not_make_one_store(raw):
    with store.rebuilt(raw.parent / "out.duckdb") as connection:
        store.fill(connection, [])
        with pytest.raises(UserError, match=r"another run is writing .*out\.duckdb; wait until it is done"):
            prepare(raw)
    assert not list(raw.parent.glob(".*"))


def test_ctrl_c_in_a_query_is_ctrl_c(raw):
    """DuckDB ends a query on Ctrl-C with these words; a signal to a real query is not noticed within any fixed time."""
    with pytest.raises(KeyboardInterrupt), history.opened(raw.parent / "out.duckdb", raw):
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="another"), history.opened(raw.parent / "out.duckdb", raw):
        raise RuntimeError("another")


ENDLESS = """
import sys; from pathlib import Path; from utils.chatlogs.storage import database, history
while True:
    for letter in "ab":
        Path(sys.argv[2], "note.txt").write_text(letter * (1 + len(Path(sys.argv[2], "note.txt").read_text()) % 9))
        with history.opened(Path(sys.argv[1]), Path(sys.argv[2])): print(flush=True)
"""


def test_kill_at_any_moment_leaves_a_store_that_opens(raw):
    path, whole = raw.parent / "out.duckdb", 64
    (raw / "note.txt").write_text("")
    for attempt in range(5):
        command = [sys.executable, "-c", ENDLESS, str(path), str(raw)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.03 + 0.037 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert rows(path, "SELECT count(*) FROM messages") == [(whole,)]
    prepare(raw)
    assert not list(raw.parent.glob(".*"))


# Large files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["none", "cut off", "in the middle"])
def test_a_file_in_parts_is_the_file_as_a_whole(tmp_path, monkeypatch, damage):
    messages = [files.message(n, "rohan", f'"}}, {{"id": "5", "type": ü {n} ' + "x" * 90) for n in range(60)]
    data = files.write(tmp_path / "a.json", messages, messageCount=61).read_bytes()
    if damage == "cut off":
        data = data[:-900]
    elif damage == "in the middle":
        data = data.replace(b'"isPinned": false, "content"', b'"isPinned": fa, "content"', 30).replace(
            b"fa,", b"false,", 27
        )
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + data)
    whole = discord_json.read(data)
    monkeypatch.setattr(discord_json, "PART_BYTES", 3000)
    with (tmp_path / "a.json").open("rb") as file:
        parts = list(discord_json.read_parts(file))
    assert len(parts) > 5 and [m for part in parts for m in part.messages] == list(whole.messages)
    met = [warning for part in parts for warning in part.warnings]
    assert len(met) >= len(whole.warnings) > 0 and parts[0].channel == whole.channel


# Forgetting -----------------------------------------------------------------------------------------------------------


def forget(raw, *ids):
    prepare_training_data.main(["--output-dir", str(raw.parent / "out"), "--forget", *map(str, ids)])


def everything(raw):
    return b"".join(path.read_bytes() for path in (raw.parent / "out").iterdir())


def test_a_forgotten_person_leaves_store_and_records_for_good(raw, capsys):
    prepare(raw)
    path, dale = raw.parent / "out.duckdb", files.PEOPLE["dale"]
    assert b"kazoo" in everything(raw)
    forget(raw, dale)
    said = capsys.readouterr().out
    assert "removed 8 messages, all that one person wrote, from" in said and "8 of 32 records are out of" in said
    assert str(dale).encode() not in everything(raw) and b"kazoo 0" not in everything(raw)
    assert rows(path, f"SELECT count(*) FROM messages WHERE author_id = {dale}") == [(0,)]
    for _ in range(2):
        (raw / "b.json").write_bytes((raw / "a.json").read_bytes())  # read again, and still forgotten
        prepare(raw)
        assert b"kazoo 0" not in everything(raw)
        assert rows(path, "SELECT count(*) FROM messages WHERE form = 'forgotten' AND content = ''") == [(8,)]


def test_a_forgotten_message_takes_the_records_that_show_it_along(raw):
    prepare(raw)
    first = records.read(raw.parent / "out" / "train.jsonl")[0]
    asked = first.source.instruction_ids[0]
    forget(raw, asked)
    left = [one for name in SETS for one in records.read(raw.parent / "out" / f"{name}.jsonl")]
    assert first.instruction not in [
        text for one in left for text in (one.instruction, one.input, *sum(one.history, ()))
    ]
    assert not any(asked in one.source.instruction_ids for one in left)


def test_when_the_persona_is_forgotten_nothing_is_left(raw, capsys):
    prepare(raw)
    forget(raw, files.PEOPLE["rohan"])
    assert not list((raw.parent / "out").iterdir()) and "removed all 32 records" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "line"), [("12345", "is the id of no person and no message"), ("dale", "takes the ids of people")]
)
def test_an_unknown_id_is_one_line_and_removes_nothing(raw, wanted, line):
    before = prepare(raw)
    with pytest.raises(UserError, match=line):
        forget(raw, files.PEOPLE["dale"], wanted)
    assert {path.name: path.read_bytes() for path in (raw.parent / "out").iterdir()} == before
    with pytest.raises(UserError, match="there is no store at"):
        prepare_training_data.main(["--output-dir", str(raw.parent / "other"), "--forget", "1"])


def test_forgetting_again_finishes_what_a_killed_run_began(raw, capsys, monkeypatch):
    before = prepare(raw)
    path, dale = raw.parent / "out.duckdb", files.PEOPLE["dale"]
    with monkeypatch.context() as broken:
        broken.setattr(prepare_training_data, "prepare", lambda *_, **__: sys.exit(137))  # new store, old records
        with pytest.raises(SystemExit):
            forget(raw, dale)
    assert rows(path, f"SELECT count(*) FROM messages WHERE author_id = {dale}") == [(0,)]
    assert {path.name: path.read_bytes() for path in (raw.parent / "out").iterdir()} == before
    forget(raw, dale)
    assert "is forgotten already" in capsys.readouterr().out
    assert str(dale).encode() not in everything(raw) and b"kazoo 0" not in everything(raw)


@pytest.mark.parametrize("report", [None, b"", b"{}", b'{"settings": {"persona": 5}}', b"[]", b"\xff"])
def test_nothing_is_forgotten_where_nothing_says_how_the_records_were_made(raw, report):
    prepare(raw)
    path, dale = raw.parent / "out" / "report.json", files.PEOPLE["dale"]
    path.unlink()
    if report is not None:
        path.write_bytes(report)
    with pytest.raises(UserError, match="prepare the data again, then forget; nothing was removed"):
        forget(raw, dale)
    assert rows(raw.parent / "out.duckdb", f"SELECT count(*) FROM messages WHERE author_id = {dale}") == [(8,)]


def test_forgetting_nobody_is_a_mistake(raw):
    prepare(raw)
    with pytest.raises(UserError, match="--forget needs the id of a person or a message"):
        forget(raw)


def test_the_fingerprint_follows_the_files(raw):
    before = history.fingerprint(raw)
    assert history.fingerprint(raw) == before
    os.utime(raw / "a.json", ns=(1, 1))
    assert history.fingerprint(raw) != before


@pytest.mark.skipif(not second_process.is_at_hand(), reason="needs Linux and two cores")
def test_a_second_process_reads_the_same(raw, monkeypatch):
    """The same rows and the same reading, with what was skipped; and the error of a source without an export."""
    (raw / "broken.json").write_text("{")
    (raw / "examples.jsonl").write_text('{"instruction": "hi", "output": "ho"}\n')
    alone, helped = raw.parent / "alone.duckdb", raw.parent / "helped.duckdb"
    with history.opened(alone, raw) as (_, reading):
        pass
    monkeypatch.setattr(history, "SECOND_PROCESS_BYTES", 0)
    with history.opened(helped, raw) as (_, read_elsewhere):
        pass
    assert read_elsewhere == reading and reading.skipped and reading.records
    everything = "FROM messages ORDER BY rowid"
    assert rows(helped, everything) == rows(alone, everything)
    (raw.parent / "empty").mkdir()
    (raw.parent / "empty" / "broken.json").write_text("{")
    match = "no export could be read in .*empty"
    with pytest.raises(UserError, match=match), history.opened(helped, raw.parent / "empty"):
        pass
    assert rows(helped, everything) == rows(alone, everything)
