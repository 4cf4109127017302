"""Arrays of messages in the shape of Discord's API."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.chatlogs.sources import readers
from utils.chatlogs.sources.export import NotAnExport


def message(number, **keys):
    author = {"id": "301313178996830219", "username": "rohan", "global_name": "Rohan", "bot": False}
    return {
        "id": str(1_235_000_000_000_000_000 + number),
        "channel_id": "500",
        "content": f"message {number}",
        "timestamp": "2024-05-01T18:00:00.123000+00:00",
        "type": 0,
        "author": author,
        **keys,
    }


def read(tmp_path, messages):
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(messages))
    return readers.read_file(path)


def test_reads_what_a_message_holds(tmp_path):
    reference = {"message_id": "77", "channel_id": "500", "type": 0}
    keys = {
        "mentions": [{"id": "5"}],
        "attachments": [{"id": "1"}],
        "reactions": [{"count": 2, "emoji": {"name": "x"}}],
    }
    (export,) = read(tmp_path, [message(0, type=19, message_reference=reference, **keys)])
    (one,) = export.messages
    assert (one.id, one.channel_id, one.author_id) == (1_235_000_000_000_000_000, 500, 301313178996830219)
    assert (one.author_name, one.author_nickname, one.unix_ms) == ("rohan", "Rohan", 1714586400123)
    assert (one.reply_to, one.mentions, one.attachments, one.reactions) == (77, (5,), 1, 2)


def test_bots_webhooks_system_text_and_forwards_are_known(tmp_path):
    bot = {"id": "9", "username": "helper", "bot": True}
    reference = {"message_id": "77", "type": 1}
    rows = [message(0, author=bot), message(1, webhook_id="8"), message(2, type=7)]
    rows.append(message(3, message_reference=reference, message_snapshots=[{"message": {}}]))
    (export,) = read(tmp_path, rows)
    assert [one.is_bot for one in export.messages] == [True, True, False, False]
    assert [one.is_system for one in export.messages] == [False, False, True, False]
    assert export.messages[3].is_forward and export.messages[3].reply_to is None


def test_each_channel_is_an_export(tmp_path):
    exports = read(tmp_path, [message(0), message(1, channel_id="7"), message(2)])
    assert [(export.channel.id, len(export.messages)) for export in exports] == [(7, 1), (500, 2)]


def test_what_is_no_message_is_counted(tmp_path):
    (export,) = read(tmp_path, [message(0), {"role": "user"}, 5, message(1)])
    assert len(export.messages) == 2 and "has 2 items that are no message" in export.warnings[0]


@pytest.mark.parametrize("rows", [[], [1], [{"title": "x", "content": "hi"}]])
def test_an_array_of_something_else_is_no_export(tmp_path, rows):
    with pytest.raises(NotAnExport, match="none of its items is a message"):
        read(tmp_path, rows)


WHOLE = json.dumps([message(n) for n in range(3)]).encode()


def test_a_megabyte_of_opening_brackets_is_no_chat(tmp_path):
    (tmp_path / "a.json").write_text('[{"content":' * 100_000)
    start_s = time.process_time()
    with pytest.raises(NotAnExport, match="none of its items is a message"):
        readers.read_file(tmp_path / "a.json")
    assert time.process_time() - start_s < 5


def test_a_cut_off_array_keeps_every_complete_message(tmp_path):
    (tmp_path / "a.json").write_bytes(WHOLE[:-20])
    (export,) = readers.read_file(tmp_path / "a.json")
    assert len(export.messages) == 2 and "is cut off" in export.warnings[0]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=8))
def test_no_damage_ends_in_a_traceback(tmp_path_factory, start, length, junk):
    path = tmp_path_factory.mktemp("fuzz") / "a.json"
    path.write_bytes(WHOLE[:start] + junk + WHOLE[start + length :])
    try:
        exports = readers.read_file(path)
    except NotAnExport:
        return
    for export in exports:
        for one in export.messages:
            one.content.encode()
