"""The official data package: every layout, alone and beside channel exports."""

import json
import shutil
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.chatlogs import discord_files as files
from tests.chatlogs.test_discord_csv import HEADER, OLD_HEADER, quoted
from utils.chatlogs.sources import data_package, package_owner, readers
from utils.chatlogs.sources.export import DISCORD_EPOCH_MS, OWN_MESSAGES_ONLY
from utils.console import UserError

OWN = files.PEOPLE["rohan"]
ROOM, DIRECT, OTHER = 500000000000000000, 600000000000000000, 700000000000000000


def own(number, content, **keys):
    moment = f"2024-05-01 18:{number // 6:02}:{number % 6 * 10:02}"
    return {"ID": files.FIRST_ID + number, "Timestamp": moment, "Contents": content, "Attachments": "", **keys}


def package(root, *, messages="messages", prefix="c", as_csv=False, user=True, recipients=((OWN, 5), (OWN, 6))):
    """ROOM in a server, DIRECT with somebody; `recipients` are those of direct messages."""
    root = root / messages
    root.mkdir(parents=True)
    (root / "index.json").write_text(json.dumps({str(ROOM): "bench in Shed", str(DIRECT): "Direct Message with x#0"}))
    guild = {"guild": {"id": "900000000000000000", "name": "Shed"}, "name": "bench"}
    described = [(ROOM, {"type": "GUILD_TEXT", **guild})]
    described += [(DIRECT + i, {"type": "DM", "recipients": list(map(str, who))}) for i, who in enumerate(recipients)]
    for channel, keys in described:
        folder = root / f"{prefix}{channel}"
        folder.mkdir()
        (folder / "channel.json").write_text(json.dumps({"id": str(channel), **keys}))
        rows = [own(number, f"line {number}") for number in range(channel % 7, channel % 7 + 4)]
        if as_csv:
            lines = ["ID,Timestamp,Contents,Attachments"]
            lines += [f'{row["ID"]},{row["Timestamp"]}+00:00,"{row["Contents"]}",' for row in rows]
            (folder / "messages.csv").write_text("\n".join(lines))
        else:
            (folder / "messages.json").write_text(json.dumps(rows))
    if user:
        account = root.parent / ("account" if messages == "messages" else "Konto")
        account.mkdir()
        (account / "user.json").write_text(json.dumps({"id": str(OWN), "username": "rohan", "global_name": "Rohan"}))
    return root.parent


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"as_csv": True},
        {"as_csv": True, "prefix": ""},
        {"messages": "Messages"},
        {"messages": "Nachrichten"},
        {"user": False},
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_layout(tmp_path, layout, zipped):
    root = package(tmp_path / "package", **layout)
    if zipped:
        shutil.make_archive(str(tmp_path / "package"), "zip", root)
        root = tmp_path / "package.zip"
    reading = readers.read_source(root)
    assert reading.skipped == [] and reading.warnings == [] and reading.files == 1
    assert [export.channel.id for export in reading.exports] == [ROOM, DIRECT, DIRECT + 1]
    room = reading.exports[0]
    assert (room.channel.name, room.channel.guild_name, room.exported_at_ms) == ("bench", "Shed", OWN_MESSAGES_ONLY)
    assert reading.exports[1].channel.name == "Direct Message with x#0"
    first = room.messages[0]
    assert first.id == files.FIRST_ID + ROOM % 7 and first.content == f"line {ROOM % 7}" and first.author_id == OWN
    assert first.author_name == ("rohan" if layout.get("user", True) else "me")


def test_ids_stay_whole_numbers_and_times_come_out_of_them_where_there_are_none(tmp_path):
    root = package(tmp_path)
    rows = [
        {"ID": 1235000000000000123, "Contents": "x"},
        {"ID": "1235000000000000124", "Timestamp": "?", "Contents": 5},
    ]
    (root / "messages" / f"c{ROOM}" / "messages.json").write_text(json.dumps(rows))
    one, other = readers.read_source(root).exports[0].messages
    assert (one.id, other.id) == (1235000000000000123, 1235000000000000124) and other.content == "5"
    assert one.unix_ms == (1235000000000000123 >> 22) + DISCORD_EPOCH_MS


def test_beside_an_export_its_copy_is_kept_and_the_rest_is_added(tmp_path):
    package(tmp_path / "package")
    messages = [files.message(0, "mags", "hi"), files.reply(ROOM % 7, "rohan", "LINE", 0)]
    files.write(tmp_path / "z.json", messages, channel=ROOM)
    room = files.laid_together(readers.read_source(tmp_path).exports)[ROOM]
    assert [message.content for message in room] == ["hi", "LINE", *(f"line {ROOM % 7 + i}" for i in (1, 2, 3))]
    assert {message.author_id for message in room[1:]} == {OWN}


def test_the_owner_is_found_among_the_authors_of_an_export(tmp_path):
    package(tmp_path / "package", user=False, recipients=())
    assert package_owner.stated(data_package.claim(readers._find([tmp_path], readers.Reading()))[0][0]) is None
    reading = readers.read_source(tmp_path)
    assert {m.author_name for m in reading.exports[0].messages} == {"me"} and "doesn't say whose" in reading.warnings[0]
    files.write(tmp_path / "z.json", [files.message(ROOM % 7 + 1, "rohan", "x")], channel=ROOM)
    reading = readers.read_source(tmp_path)
    assert {message.author_id for export in reading.exports for message in export.messages} == {OWN}


def test_the_other_rooms_of_a_package_are_passed_over_and_exports_beside_it_read(tmp_path):
    root = package(tmp_path)
    (root / "activity").mkdir()
    (root / "activity" / "events.json").write_text('{"event_type": "x"}\n{"event_type": "y"}')
    (root / "servers").mkdir()
    (root / "servers" / "index.json").write_text("{}")
    files.write(root / "general.json", [files.message(0, "rohan", "x")], channel=OTHER)
    reading = readers.read_source(root)
    assert reading.skipped == [] and {export.channel.id for export in reading.exports} >= {ROOM, OTHER}


def test_damage_costs_what_it_holds(tmp_path):
    root = package(tmp_path)
    (root / "messages" / "index.json").write_text("[")
    (root / "messages" / f"c{DIRECT}" / "channel.json").write_text("{")
    path = root / "messages" / f"c{ROOM}" / "messages.json"
    path.write_bytes(path.read_bytes()[:-20])
    (root / "messages" / f"c{DIRECT + 1}" / "messages.json").write_text("")
    room, direct, empty = readers.read_source(root).exports
    assert len(room.messages) == 3 and "is cut off in or before the message at byte" in room.warnings[0]
    assert direct.channel.id == DIRECT and len(direct.messages) == 4 and "can't be read" in direct.warnings[0]
    assert empty.messages == [] and "is damaged or empty" in empty.warnings[0]


def test_quoted_newlines_in_the_old_csv(tmp_path):
    root = package(tmp_path, as_csv=True)
    path = root / "messages" / f"c{ROOM}" / "messages.csv"
    rows = 'ID,Timestamp,Contents,Attachments\n1235000000000000123,2019-01-01 10:00:00.5+00:00,"a\nb, ""c""",x y\nbad\n'
    path.write_text(rows)
    export = readers.read_source(root).exports[0]
    assert [(m.content, m.attachments) for m in export.messages] == [('a\nb, "c"', 2)]
    assert "has 1 damaged rows" in export.warnings[0]


def test_an_id_of_the_old_csv_with_a_separator_around_it(tmp_path):
    """`str.strip` takes U+001C for space, `int` does not: found by the hundred thousand damaged files."""
    root = package(tmp_path, as_csv=True)
    path = root / "messages" / f"c{ROOM}" / "messages.csv"
    path.write_text("ID,Timestamp,Contents,Attachments\n\x1e1235000000000000123\x1c,2019-01-01 10:00:00,hello,\n\n")
    export = readers.read_source(root).exports[0]
    assert [(m.id, m.content) for m in export.messages] == [(1235000000000000123, "hello")]
    assert export.warnings == []


def test_a_zip_without_messages_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("README.txt", "hi")
    with pytest.raises(UserError, match="no export could be read"):
        readers.read_source(tmp_path)


# Beside CSV, which has no ids -----------------------------------------------------------------------------------------


def in_csv(path, said, *, old=False, author_id=OWN, offset_minutes=0):
    """`said`: (the id's number in a package, its words); with `old` in minutes and without a time zone."""
    lines = [OLD_HEADER if old else HEADER]
    for number, text in said:
        moment = datetime.fromtimestamp(((files.FIRST_ID + number >> 22) + DISCORD_EPOCH_MS) / 1000, UTC)
        moment += timedelta(minutes=offset_minutes)
        if old:
            lines.append(
                quoted(author_id, "rohan#0042", moment.strftime("%d-%b-%y %I:%M %p"), text, "", "", delimiter=";") + ";"
            )
        else:
            lines.append(quoted(author_id, "rohan", moment.strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00"), text, "", "👍 (3)"))
    path.write_text("\r\n".join([*lines, ""]), newline="")
    return path


STEP = 10_000 << 22  # ten seconds, as an id counts them


@pytest.fixture
def spread(tmp_path):
    """A package whose messages in ROOM are ten seconds apart by their ids, too."""
    root = package(tmp_path / "package")
    rows = [{"ID": files.FIRST_ID + n * STEP, "Timestamp": "?", "Contents": f"line {n} <@5>"} for n in range(4)]
    (root / "messages" / f"c{ROOM}" / "messages.json").write_text(json.dumps(rows))
    return root


def room(folder):
    return files.laid_together(readers.read_source(folder).exports)[ROOM]


@pytest.mark.parametrize("user", [True, False])
def test_a_message_of_a_csv_gets_the_id_that_the_package_knows(tmp_path, spread, user):
    if not user:
        shutil.rmtree(spread / "account")
        for described in spread.glob("messages/c6*"):
            shutil.rmtree(described)
    in_csv(tmp_path / f"bench [{ROOM}].csv", [(n * STEP, f"line {n} @Ana") for n in range(3)] + [(9, "mine, deleted")])
    messages = room(tmp_path)
    said = ["line 0 @Ana", "mine, deleted", "line 1 @Ana", "line 2 @Ana", "line 3 <@5>"]
    assert sorted(message.content for message in messages) == sorted(said)
    assert {message.author_id for message in messages} == {OWN}
    assert {files.FIRST_ID + n * STEP for n in range(4)} < {message.id for message in messages}
    assert sum(message.reactions for message in messages) == 12  # the CSV's copies, which say more


@pytest.mark.parametrize("author_id", [OWN, ""])
@pytest.mark.parametrize("offset_minutes", [0, 120])
def test_of_a_coarse_csv_the_copies_of_the_package_are_left_out(tmp_path, spread, author_id, offset_minutes):
    said = [(n * STEP, f"line {n} @Ana") for n in range(3)]
    path = in_csv(
        tmp_path / f"bench [{ROOM}].csv", said, old=True, author_id=author_id or 1, offset_minutes=offset_minutes
    )
    if not author_id:
        lines = path.read_text().split("\n")
        path.write_text("\n".join(line.partition(";")[2] for line in lines))
    late = {"ID": files.FIRST_ID + 20_000 * STEP, "Timestamp": "?", "Contents": "weeks later"}
    own_messages = spread / "messages" / f"c{ROOM}" / "messages.json"
    own_messages.write_text(json.dumps([*json.loads(own_messages.read_text()), late]))
    reading = readers.read_source(tmp_path)
    messages = files.laid_together(reading.exports)[ROOM]
    assert [message.content for message in messages] == [*(text for _, text in said), "weeks later"]
    assert any("covers the time of 4 messages of a data package" in warning for warning in reading.warnings)
