"""The reader of DiscordChatExporter's JSON: what comes out of files in good order and of damaged ones."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chatlogs import discord_files as files
from utils.chatlogs.sources import readers
from utils.chatlogs.sources.export import NotAnExport


def read(path):
    (export,) = readers.read_file(path)
    return export


def read_one(tmp_path, **keys):
    return read(files.write(tmp_path / "a.json", [files.message(0, "rohan", "hi", **keys)])).messages[0]


def write_bytes(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    return path


def encoded(messages, **keys):
    return json.dumps(files.document(messages, **keys)).encode()


def test_reads_what_a_message_holds(tmp_path):
    message = read_one(
        tmp_path,
        attachments=[{"id": "1", "url": "x", "fileName": "a.png", "fileSizeBytes": 1}],
        stickers=[{"id": "2", "name": "s"}],
        mentions=[{"id": "485768854245470220", "name": "mags"}, {"id": "5", "name": "x"}],
        reactions=[{"emoji": {"id": "", "name": "👍"}, "count": 3}, {"emoji": {"id": "1"}, "count": 2}],
    )
    assert (message.id, message.channel_id, message.author_id) == (files.FIRST_ID, 500, files.PEOPLE["rohan"])
    assert (message.author_name, message.author_nickname, message.content) == ("rohan", "Rohan", "hi")
    assert (message.attachments, message.mentions, message.reactions) == (2, (485768854245470220, 5), 5)
    assert not (message.is_bot or message.is_system or message.is_forward)


@pytest.mark.parametrize(
    ("timestamp", "unix_ms"),
    [
        ("2024-03-31T01:59:59.9999999+01:00", 1711846800000),
        ("2024-03-31T03:00:00+02:00", 1711846800000),
        ("2024-03-31T01:00:00.5+00:00", 1711846800500),
        ("2024-03-31T01:00:00Z", 1711846800000),
        ("2024-03-30T18:30:00.123-06:30", 1711846800123),
    ],
)
def test_offsets_and_fractions_become_utc_milliseconds(tmp_path, timestamp, unix_ms):
    assert read_one(tmp_path, timestamp=timestamp).unix_ms == unix_ms


@pytest.mark.parametrize("number", [12345678901234567, 1234567890123456789, 18446744073709551615])
def test_ids_keep_every_digit(tmp_path, number):
    assert read_one(tmp_path, id=str(number)).id == number


def test_reply_forward_and_thread_starter_are_told_apart(tmp_path):
    reference = {"type": "Default", "messageId": "77", "channelId": "500", "guildId": "1"}
    assert read_one(tmp_path, type="Reply", reference=reference).reply_to == 77
    assert read_one(tmp_path, type="Default", reference=reference).reply_to is None
    thread = read_one(tmp_path, type="ThreadCreated", reference=reference)
    assert thread.reply_to is None and thread.is_system
    forward = read_one(tmp_path, reference={**reference, "type": "Forward"}, forwardedMessage={"content": "theirs"})
    assert forward.is_forward and forward.reply_to is None
    assert read_one(tmp_path, type="Reply", reference={"type": "Default"}).reply_to is None


@pytest.mark.parametrize("kind", ["GuildMemberJoin", "ChannelPinnedMessage", "Call", "20", "21", "46", "FromTheFuture"])
def test_every_type_but_default_and_reply_is_system(tmp_path, kind):
    assert read_one(tmp_path, type=kind).is_system


def test_older_files_lack_keys(tmp_path):
    bare = {"id": "5", "timestamp": "2019-01-01T00:00:00+00:00", "content": "x", "author": {"id": "6", "name": "old"}}
    path = write_bytes(tmp_path, json.dumps({"channel": {"id": "1"}, "messages": [bare]}).encode())
    export = read(path)
    assert export.messages[0].author_name == "old" and export.warnings == []


def test_a_thread_and_a_direct_message_are_known_as_such(tmp_path):
    thread = {"id": "9", "type": "GuildPublicThread", "category": "workshop", "name": "printer autopsy"}
    keys = {"channel": thread, "guild": {"id": "0", "name": "Direct Messages"}}
    raw = files.document([files.message(0, "rohan", "hi")]) | keys
    info = read(write_bytes(tmp_path, json.dumps(raw).encode())).channel
    assert info.is_thread and info.name == "printer autopsy" and info.guild_id == 0


@pytest.mark.parametrize("indent", [None, 2])
def test_a_cut_off_file_keeps_every_complete_message(tmp_path, indent):
    messages = [files.message(n, "rohan", f"message {n} ü") for n in range(5)]
    whole = json.dumps(files.document(messages), indent=indent, ensure_ascii=False).encode()
    offset = whole.index(b'"id": "1235000000000000003"') + 40
    export = read(write_bytes(tmp_path, whole[:offset]))
    assert [m.content for m in export.messages] == [f"message {n} ü" for n in range(3)]
    start = whole.rindex(b"{", 0, whole.index(b'"id": "1235000000000000003"'))
    assert f"at byte {start}; 3 messages are kept" in export.warnings[0]


def test_damage_in_the_middle_costs_one_message(tmp_path):
    data = encoded([files.message(n, "rohan", f"message {n}") for n in range(4)])
    data = data.replace(b'"content": "message 1"', b'"content: message 1"')
    export = read(write_bytes(tmp_path, data))
    assert [m.content for m in export.messages] == ["message 0", "message 2", "message 3"]
    assert "is damaged at byte" in export.warnings[0]


def test_a_wrong_message_count_is_a_warning(tmp_path):
    path = files.write(tmp_path / "a.json", [files.message(0, "rohan", "hi")], messageCount=7)
    assert read(path).warnings == ["says that it holds 7 messages, but holds 1"]


def test_a_message_without_author_is_left_out_and_counted(tmp_path):
    data = encoded([files.message(0, "rohan", "a"), files.message(1, "rohan", "b") | {"author": None}])
    export = read(write_bytes(tmp_path, data))
    assert [m.content for m in export.messages] == ["a"]
    assert "has 1 messages without a usable id, author or timestamp" in export.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_and_utf_16(tmp_path, encoding):
    text = json.dumps(files.document([files.message(0, "rohan", "grüße 🎉")]), ensure_ascii=False)
    export = read(write_bytes(tmp_path, text.encode(encoding)))
    assert export.messages[0].content == "grüße 🎉"


def test_bad_bytes_lone_surrogates_and_nul_are_recovered(tmp_path):
    data = encoded([files.message(0, "rohan", "bad X here"), files.message(1, "rohan", "lone Y pair Z")])
    data = data.replace(b"X", b"\xff\x00").replace(b"Y", b"\\ud83d").replace(b"Z", b"\\ud83c\\udf89") + b"\0" * 30
    export = read(write_bytes(tmp_path, data))
    assert [m.content for m in export.messages] == ["bad �\0 here", "lone � pair 🎉"]
    assert "not UTF-8" in export.warnings[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n\0", "is empty"),
        (b'{"planted": []}', "is JSON, but no DiscordChatExporter file"),
        (b"[1, 2]", "is a JSON array, but none of its items is a message"),
        (b"hello", "is not valid JSON"),
        (b'{"guild": {"id": "1"', "is not valid JSON"),
        (b'{"messages": [{"title": "user"}]}', "has no channel"),
        (b"[" * 100_000, "none of its items is a message"),
    ],
)
def test_what_is_no_export_is_named_with_the_reason(tmp_path, data, reason):
    with pytest.raises(NotAnExport, match=reason):
        read(write_bytes(tmp_path, data))


WHOLE = encoded([files.message(n, "rohan", 'hi 🎉 \\ " ]}', mentions=[{"id": "5"}]) for n in range(3)])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=8))
def test_no_damage_ends_in_a_traceback(tmp_path_factory, start, length, junk):
    path = tmp_path_factory.mktemp("fuzz") / "a.json"
    path.write_bytes(WHOLE[:start] + junk + WHOLE[start + length :])
    try:
        export = read(path)
    except NotAnExport:
        return
    for message in export.messages:
        message.content.encode()
