"""Discord History Tracker's database, in the versions of its schema."""

import sqlite3
import zipfile

import pytest

from utils.chatlogs.sources import readers
from utils.chatlogs.sources.export import NotAnExport

ROHAN, MAGS, ROOM, THREAD = 301313178996830219, 485768854245470220, 500000000000000000, 500000000000000001
FIRST = 1_235_000_000_000_000_000


def database(path, *, old=False, rows=()):
    """A room and a thread in it with three messages, the third a reply to the first."""
    reply, embeds, reactions = (
        ("replied_to", "embeds", "reactions") if old else ("message_replied_to", "message_embeds", "message_reactions")
    )
    attachments = "message_id INTEGER, attachment_id INTEGER"
    with sqlite3.connect(path) as db:
        db.executescript(
            f"""
            CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT);
            CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT{"" if old else ", display_name TEXT"});
            CREATE TABLE servers (id INTEGER PRIMARY KEY, name TEXT, type TEXT);
            CREATE TABLE channels (id INTEGER PRIMARY KEY, server INTEGER, name TEXT, parent_id INTEGER);
            CREATE TABLE messages (message_id INTEGER PRIMARY KEY, sender_id INTEGER, channel_id INTEGER, text TEXT,
                                   timestamp INTEGER);
            CREATE TABLE {reply} (message_id INTEGER PRIMARY KEY, replied_to_id INTEGER);
            CREATE TABLE {embeds} (message_id INTEGER, json TEXT);
            CREATE TABLE {reactions} (message_id INTEGER, emoji_name TEXT, count INTEGER);
            CREATE TABLE attachments ({attachments if old else "attachment_id INTEGER"});
            INSERT INTO servers VALUES (9, 'Shed', 'SERVER');
            INSERT INTO channels VALUES ({ROOM}, 9, 'bench', 77), ({THREAD}, 9, 'screws', {ROOM});
            INSERT INTO users VALUES ({ROHAN}, 'rohan'{"" if old else ", 'Ro'"});
            INSERT INTO users VALUES ({MAGS}, 'mags'{"" if old else ", NULL"});
            INSERT INTO {reply} VALUES ({FIRST + 2}, {FIRST});
            INSERT INTO {embeds} VALUES ({FIRST}, '');
            INSERT INTO {reactions} VALUES ({FIRST}, 'x', 2), ({FIRST}, 'y', 3);
            """
        )
        if not old:
            db.execute(f"CREATE TABLE message_attachments ({attachments})")
        db.execute(f"INSERT INTO {'attachments' if old else 'message_attachments'} VALUES ({FIRST}, 1)")
        said = [(MAGS, ROOM, f"<@{ROHAN}> hi"), (MAGS, THREAD, "which?"), (ROHAN, ROOM, "ok")]
        for number, (sender, channel, text) in enumerate(said):
            row = (FIRST + number, sender, channel, text, 1_714_586_400_000 + number)
            db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", row)
        db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)
    db.close()
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_version(tmp_path, old, zipped):
    path = database(tmp_path / "archive.dht", old=old)
    if zipped:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(path, "archive.dht")
        path.unlink()
    before = {path.name for path in tmp_path.iterdir()}
    reading = readers.read_source(tmp_path)
    room, thread = reading.exports
    assert (room.channel.name, room.channel.guild_name, room.channel.is_thread) == ("bench", "Shed", False)
    assert thread.channel.is_thread and thread.channel.id == THREAD
    first, second = room.messages
    assert (first.id, first.author_id, first.author_name, first.mentions) == (FIRST, MAGS, "mags", (ROHAN,))
    assert first.attachments == 2 and first.reactions == 5 and first.unix_ms == 1_714_586_400_000
    assert second.reply_to == FIRST and second.author_nickname == ("" if old else "Ro")
    assert reading.warnings == [] and {path.name for path in tmp_path.iterdir()} == before


def test_a_database_in_use_is_read_with_its_log(tmp_path):
    path = database(tmp_path / "archive.dht")
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", (FIRST + 9, MAGS, ROOM, "new", 1_714_586_400_000))
    writer.commit()
    assert [message.content for message in readers.read_file(path)[0].messages][-1] == "new"
    writer.close()


def test_odd_rows_are_left_out(tmp_path):
    rows = [(FIRST + 5, 1.5, ROOM, "float", 1), (FIRST + 6, MAGS, ROOM, b"\xff\0", 1), (FIRST + 7, MAGS, -1, "x", 1)]
    room = readers.read_file(database(tmp_path / "x", rows=[*rows, (FIRST + 8, MAGS, ROOM, "x", 2**62)]))
    warnings = [warning for export in room for warning in export.warnings]
    assert sum(len(export.messages) for export in room) == 4 and "has 3 messages without a usable id" in warnings[0]


def test_tables_without_keys_and_absurd_counts_cost_neither_time_nor_messages(tmp_path):
    path = database(tmp_path / "x")
    with sqlite3.connect(path) as db:
        db.executescript("ALTER TABLE messages RENAME TO m; CREATE TABLE messages AS SELECT * FROM m; DROP TABLE m;")
        db.executescript("DROP TABLE message_replied_to; CREATE TABLE message_replied_to (message_id, replied_to_id);")
        db.executemany("INSERT INTO message_replied_to VALUES (?, ?)", [(FIRST + 2, n) for n in range(1, 20_001)])
        db.executemany("INSERT INTO messages VALUES (?, ?, ?, 'again', 1)", 2_000 * [(FIRST + 2, ROHAN, ROOM)])
        db.executemany("INSERT INTO message_reactions VALUES (?, 'x', ?)", 3 * [(FIRST, 2**62), (FIRST + 1, -5)])
    db.close()
    room, thread = readers.read_file(path)
    assert len(room.messages) == 2_002 and {message.reply_to for message in room.messages[1:]} == {1}
    assert room.messages[0].reactions == 2**63 - 1 and thread.messages[0].reactions == 0


def test_damage_and_other_databases_are_named(tmp_path):
    path = database(tmp_path / "a.dht", rows=[(FIRST + 10 + n, MAGS, ROOM, "text " * 50, n + 1) for n in range(500)])
    data = bytearray(path.read_bytes())
    data[20000:40000] = b"\xff" * 20000
    path.write_bytes(data)
    try:
        assert any("is damaged" in export.warnings[0] for export in readers.read_file(path) if export.warnings)
    except NotAnExport as reason:
        assert "is damaged" in str(reason)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("CREATE VIEW messages AS SELECT 1 message_id, 1 sender_id, 1 channel_id, '' text, 1 timestamp")
    with pytest.raises(NotAnExport, match="but not Discord History Tracker's"):
        readers.read_file(tmp_path / "other.db")
    (tmp_path / "cut.db").write_bytes(bytes(data[:5000]))
    with pytest.raises(NotAnExport, match=r"is an SQLite database that can't be|is damaged|not Discord"):
        readers.read_file(tmp_path / "cut.db")
