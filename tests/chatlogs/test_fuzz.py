"""Damaged files of every kind: each reader gives what it can, or names the reason, and raises nothing else."""

import functools
import io
import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chatlogs import discord_files as files
from tests.chatlogs.test_chat_jsonl import OPENAI, SHARE_GPT
from tests.chatlogs.test_discord_csv import HEADER, OLD_HEADER, old_row, row
from tests.chatlogs.test_history_tracker import database
from utils.chatlogs import dialogues
from utils.chatlogs.settings import PrepareSettings
from utils.chatlogs.sources import readers
from utils.chatlogs.sources.export import LAST_MS
from utils.chatlogs.storage import columns
from utils.console import UserError

ROOM = 500000000000000000
TOKENS = [
    *(bytes([byte]) for byte in b"\"\\{}[],:;\n\r\0\xff\x80'-"),
    *(
        b"1e400",
        b"-1",
        b"0",
        b"99999999999999999999999",
        b"18446744073709551615",
        b"null",
        b"true",
        b"1.5",
        b'""',
        b"[]",
    ),
    *(
        b"9999-12-31T23:59:59-14:00",
        b"0001-01-01T00:00:00+14:00",
        b"2024-13-01",
        b"31-Feb-20 13:00 PM",
        b"\\ud800",
        b"\\u0000",
    ),
    *(
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        "٣".encode(),
        "\u2028".encode(),
        b"PK\x03\x04",
        b'"id":',
        b'"messages":[',
    ),
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["put", "cut", "swap", "repeat", "end"]),
        st.floats(0, 1, allow_nan=False),
        st.integers(1, 40),
        st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, edits) -> bytes:
    for kind, place, length, token in edits:
        at = int(place * len(data))
        if kind == "put":
            data = data[:at] + token + data[at:]
        elif kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "swap":
            data = data[:at] + token + data[at + len(token) :]
        elif kind == "repeat":
            data = data[: at + length] + data[at:]
        else:
            data = data[:at]
    return data


def package():
    """The members of a data package."""
    own = [{"ID": files.FIRST_ID + n, "Timestamp": f"2024-05-01 18:00:0{n}", "Contents": f"line {n}"} for n in range(3)]
    table = "ID,Timestamp,Contents,Attachments\n" + "".join(f'{m["ID"]},{m["Timestamp"]},"a\nb",x\n' for m in own)
    direct = {"id": str(ROOM + 1), "type": 1, "recipients": ["301313178996830219", "5"]}
    return {
        "Account/user.json": json.dumps({"id": "301313178996830219", "username": "rohan"}).encode(),
        "Messages/index.json": json.dumps({str(ROOM): "bench"}).encode(),
        f"Messages/c{ROOM}/channel.json": json.dumps(
            {"id": str(ROOM), "type": "GUILD_TEXT", "guild": {"id": "1"}}
        ).encode(),
        f"Messages/c{ROOM}/messages.json": json.dumps(own).encode(),
        f"Messages/c{ROOM + 1}/channel.json": json.dumps(direct).encode(),
        f"Messages/c{ROOM + 1}/messages.csv": table.encode(),
    }


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@functools.cache
def samples():
    """A small whole file of every kind, by name."""
    with tempfile.TemporaryDirectory() as folder:
        tracked = database(Path(folder) / "g.dht").read_bytes()
    chat = [files.message(0, "mags", "hé?"), files.reply(1, "rohan", "ok", 0, reactions=[{"count": 2}])]
    api = {"id": "5", "channel_id": "6", "timestamp": "2024-05-01T18:00:00Z", "author": {"id": "7"}, "content": "hi"}
    said = ["a", "lol", "lol", 'b "c"\nd']
    return {
        "a.json": json.dumps(files.document(chat), indent=1, ensure_ascii=False).encode(),
        "b.json": json.dumps([api, {**api, "id": "8", "type": 19, "message_reference": {"message_id": "5"}}]).encode(),
        "c.csv": "\r\n".join([HEADER, *(row(n, "rohan", text, "x", "y (2)") for n, text in enumerate(said))]).encode(),
        "d.csv": "\r\n".join([OLD_HEADER, *(old_row(n // 2, "rohan", text) for n, text in enumerate(said))]).encode(),
        "e.jsonl": "\n".join(
            json.dumps(one) for one in (OPENAI, SHARE_GPT, {"instruction": "q", "output": "a"})
        ).encode(),
        "f.json": json.dumps([OPENAI, SHARE_GPT], indent=1).encode(),
        "g.dht": tracked,
        "h.zip": zipped({"a.json": json.dumps(files.document(chat)).encode(), **package()}),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def read(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    reading = readers.Reading()
    try:
        for export in readers.stream(path, reading):
            assert export.channel.id >= 0 and f"{export.channel.name} {export.channel.guild_name}".encode()
            stored = columns.to_table(export, 0)  # what the store takes
            assert columns.arrow(stored).num_rows + stored.left_out == len(export.messages)
            assert all(0 <= message.unix_ms <= LAST_MS for message in export.messages)
    except UserError as error:
        assert "no export could be read" in str(error)
    dialogues.write(reading.records, "x", PrepareSettings())
    assert all(isinstance(line, str) and "\n" not in line for _, line in reading.skipped)
    return reading


WITHOUT_ZONE = "d (CSV) has dates without a time zone; they are taken as UTC"
KINDS = st.sampled_from(["a.json", "b.json", "c.csv", "d.csv", "e.jsonl", "f.json", "g.dht", "h.zip", "package"])
LENIENT = [HealthCheck.too_slow, HealthCheck.data_too_large]


def check(folder, kind, edits, member):
    if kind == "package":
        members = package()
        name = sorted(members)[member % len(members)]
        members[name] = damaged(members[name], edits)
        read(folder, "package.zip", zipped(members))
    else:
        read(folder, kind, damaged(samples()[kind], edits))


@settings(max_examples=300, deadline=None, suppress_health_check=LENIENT)
@given(kind=KINDS, edits=EDITS, member=st.integers(0, 5))
def test_damaged_files_of_every_kind(folder, kind, edits, member):
    check(folder, kind, edits, member)


@pytest.mark.slow
@settings(max_examples=100_000, deadline=None, suppress_health_check=LENIENT, database=None)
@given(kind=KINDS, edits=EDITS, member=st.integers(0, 5))
def test_a_hundred_thousand_damaged_files(folder, kind, edits, member):
    check(folder, kind, edits, member)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["x.json", "x.csv", "x.jsonl", "x.zip", "x.dht", "x"]), data=st.binary(max_size=200))
def test_any_bytes_under_any_name(folder, name, data):
    for start in (b"", b"[", b'{"', HEADER.encode() + b"\n", b"SQLite format 3\0", b"PK\x03\x04"):
        read(folder, name, start + data)


@pytest.mark.parametrize("name", samples())
def test_the_samples_themselves_are_read_whole(folder, name):
    reading = read(folder, name, samples()[name])
    assert reading.skipped == [] and reading.warnings in ([], [WITHOUT_ZONE]) and (reading.records or reading.files)
