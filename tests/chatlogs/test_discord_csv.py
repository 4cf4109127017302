"""DiscordChatExporter's CSV: two dialects, no ids, and many files for one channel."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.chatlogs import discord_files as files
from utils.chatlogs.sources import readers
from utils.chatlogs.sources.export import NotAnExport

HEADER = "AuthorID,Author,Date,Content,Attachments,Reactions"
OLD_HEADER = "AuthorID;Author;Date;Content;Attachments;Reactions;"
START = datetime(2024, 5, 1, 18, 0, tzinfo=UTC)
IDS = {"rohan": 301313178996830219, "mags": 485768854245470220}


def quoted(*fields, delimiter=","):
    return delimiter.join('"' + str(field).replace('"', '""') + '"' for field in fields)


def row(seconds, author, content, attachments="", reactions=""):
    moment = START + timedelta(seconds=seconds)
    return quoted(IDS[author], author, moment.strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00"), content, attachments, reactions)


def old_row(minute, author, content):
    moment = datetime(2019, 12, 5, 1, 40) + timedelta(minutes=minute)
    date = moment.strftime("%d-%b-%y %I:%M %p")
    return quoted(IDS[author], f"{author}#0042", date, content, "", "", delimiter=";") + ";"


def write(path, rows, header=HEADER):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\r\n".join([header, *rows, ""]), encoding="utf-8", newline="")
    return path


def texts(folder):
    (messages,) = files.laid_together(readers.read_source(folder).exports).values()
    return [message.content for message in messages]


def test_the_modern_dialect(tmp_path):
    content = 'two\nlines, a "quote"; and "123","x"\n"301313178996830219","rohan"'
    rows = [row(0, "mags", "hi"), row(1.5, "rohan", content, "https://a/b.png,https://a/c.png", "👍 (2),🎉 (11)")]
    (export,) = readers.read_file(write(tmp_path / "Shed - Making - bench [500000000000000000].csv", rows))
    assert (export.channel.id, export.channel.name, export.channel.guild_name) == (500000000000000000, "bench", "Shed")
    first, second = export.messages
    assert second.content == content and second.author_id == IDS["rohan"] and second.author_name == "rohan"
    assert second.unix_ms - first.unix_ms == 1500 and second.attachments == 2 and second.reactions == 13
    assert second.id > first.id and export.warnings == []


def test_the_dialect_before_2020(tmp_path):
    rows = [old_row(8, "rohan", "one; two\nthree"), old_row(8, "mags", "ok"), old_row(9, "mags", "lol")]
    (export,) = readers.read_file(write(tmp_path / "Shed - bench [500000000000000000].csv", rows, OLD_HEADER))
    assert [message.content for message in export.messages] == ["one; two\nthree", "ok", "lol"]
    assert export.messages[0].author_name == "rohan"
    assert export.messages[0].unix_ms == datetime(2019, 12, 5, 1, 48, tzinfo=UTC).timestamp() * 1000
    assert export.messages == sorted(export.messages, key=lambda message: message.id)


def test_without_author_ids_a_person_is_a_name(tmp_path):
    rows = [quoted(f"{name}#0001", "05-Dec-19 01:48 AM", "hi", "", delimiter=";") + ";" for name in ("a", "b", "a")]
    (export,) = readers.read_file(write(tmp_path / "x.csv", rows, "Author;Date;Content;Attachments;"))
    one, other, again = (message.author_id for message in export.messages)
    assert one == again != other and 0 < one < 2**48


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["05/06/2021 13:00", "05/13/2021 09:00"], (2021, 5, 6)),
        (["05/06/2021 13:00", "13/06/2021 09:00"], (2021, 6, 5)),
        (["05/12/2021 1:00 PM", "06/01/2021 1:00 AM"], (2021, 5, 12)),
        (["31/01/2021 13:00", "01/02/2021 13:00"], (2021, 1, 31)),
        (["02.03.2021 13:00"], (2021, 3, 2)),
        (["2021-03-02 13:00:05"], (2021, 3, 2)),
        (["3/2/2021 1:00\u202fPM"], (2021, 3, 2)),
    ],
)
def test_the_format_of_the_dates_is_found_in_the_file(tmp_path, dates, expected):
    rows = [quoted(IDS["rohan"], "rohan", date, "hi", "", "") for date in dates]
    (export,) = readers.read_file(write(tmp_path / "x.csv", rows))
    first = datetime.fromtimestamp(export.messages[0].unix_ms / 1000, UTC)
    assert (first.year, first.month, first.day) == expected and len(export.messages) == len(dates)
    assert "without a time zone" in export.warnings[0] if export.warnings else dates[0].startswith("2021-")


def test_hundreds_of_parts_are_one_channel_and_a_second_lol_stays(tmp_path):
    said = [("rohan", "lol") if number % 2 else ("mags", f"joke {number // 7}") for number in range(1000)]
    rows = [old_row(number // 20, author, text) for number, (author, text) in enumerate(said)]
    for part in range(200):
        suffix = f" [part {part + 1}]" if part else ""
        write(tmp_path / f"Shed - bench [500000000000000000]{suffix}.csv", rows[5 * part : 5 * part + 5], OLD_HEADER)
    assert texts(tmp_path) == [text for _, text in said]


@pytest.mark.parametrize("header", [HEADER, OLD_HEADER])
def test_overlapping_exports_are_recognised(tmp_path, header):
    """Three people could have said it; what one export has of a minute, the others have, too, as far as they go."""
    said = ["a", "lol", "b", "lol", "lol", "c", "a", "lol", "lol", "d", "lol", "e"] * 3
    make = row if header == HEADER else old_row
    rows = [make(number // 5 if make is old_row else number, "rohan", text) for number, text in enumerate(said)]
    for name, start, end in (("x", 0, 17), ("y", 10, 30), ("z", 5, 36), ("again", 0, 36)):
        write(tmp_path / name / "Shed - bench [500000000000000000].csv", rows[start:end], header)
    assert texts(tmp_path) == said
    alone = {message.id for message in readers.read_source(tmp_path / "again").exports[0].messages}
    assert {message.id for message in readers.read_source(tmp_path).exports[0].messages} == alone


def test_a_deleted_and_an_edited_message(tmp_path):
    rows = [row(number, "rohan", text) for number, text in enumerate(["a", "lol", "lol", "d"])]
    write(tmp_path / "1" / "x [500000000000000000].csv", rows)
    write(tmp_path / "2" / "x [500000000000000000].csv", [rows[0], rows[2], row(3, "rohan", "D")])
    assert texts(tmp_path) == ["a", "lol", "lol", "D"]


def test_an_export_that_goes_on_within_the_minute(tmp_path):
    said = ["a", "lol", "lol", "b"]
    rows = [old_row(0, "rohan", text) for text in said]
    write(tmp_path / "1" / "x [500000000000000000].csv", rows[:2], OLD_HEADER)
    write(tmp_path / "2" / "x [500000000000000000].csv", rows[2:], OLD_HEADER)
    assert texts(tmp_path) == said


def test_newest_first(tmp_path):
    rows = [old_row(number // 3, "rohan", str(number)) for number in range(10)]
    write(tmp_path / "x [500000000000000000].csv", rows[::-1][:6], OLD_HEADER)
    write(tmp_path / "x [500000000000000000] [part 2].csv", rows[::-1][6:], OLD_HEADER)
    assert texts(tmp_path) == [str(number) for number in range(10)]


def test_a_json_export_of_the_channel_is_better(tmp_path):
    messages = [files.message(number, "rohan", str(number)) for number in range(5)]
    files.write(tmp_path / "a.json", messages, channel=500000000000000000)
    rows = [row(10 * number, "rohan", str(number)) for number in range(8)]
    write(tmp_path / "b [500000000000000000].csv", rows)
    write(tmp_path / "c [500000000000000000].csv", [old_row(0, "mags", "long ago")], OLD_HEADER)
    assert texts(tmp_path) == ["long ago", *map(str, range(8))]


def test_zero_byte_files_and_a_header_alone_are_named(tmp_path):
    write(tmp_path / "a.csv", [row(0, "rohan", "hi")])
    (tmp_path / "b.csv").touch()
    write(tmp_path / "c.csv", [])
    reading = readers.read_source(tmp_path)
    assert {path.name: reason for path, reason in reading.skipped} == {"b.csv": "is empty", "c.csv": "has no rows"}


def test_a_damaged_row_costs_no_other(tmp_path):
    rows = [row(number, "rohan", f"text {number}") for number in range(6)]
    path = write(tmp_path / "x.csv", rows)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"text 2"', b'"text 2')[:-30])
    (export,) = readers.read_file(path)
    assert [message.content for message in export.messages] == ["text 0", "text 1", "text 3", "text 4"]
    assert f"in 2 rows, the first at byte {whole.index(rows[2].encode())}; 4 kept" in export.warnings[0]


def test_ids_that_a_spreadsheet_has_rounded_are_refused(tmp_path):
    path = write(
        tmp_path / "x.csv", [row(0, "rohan", "hi"), row(1, "rohan", "x").replace(str(IDS["rohan"]), "3.01E+17")]
    )
    (export,) = readers.read_file(path)
    assert len(export.messages) == 1 and "rounded" in export.warnings[0]
    write(path, [row(1, "rohan", "x").replace(str(IDS["rohan"]), "3.01E+17")])
    with pytest.raises(NotAnExport, match="a spreadsheet program has rounded"):
        readers.read_file(path)


def test_system_text_is_no_chat(tmp_path):
    system = [
        "Joined the server.",
        "Pinned a message.",
        "Started a call that lasted 3 minutes.",
        "Added x to the group.",
    ]
    path = write(
        tmp_path / "x.csv", [row(i, "rohan", text) for i, text in enumerate([*system, "Pinned a message. ok"])]
    )
    assert [message.is_system for message in readers.read_file(path)[0].messages] == [True] * 4 + [False]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_other_encodings(tmp_path, encoding):
    path = tmp_path / "x.csv"
    path.write_bytes("\n".join([HEADER, row(0, "rohan", "hé")]).encode(encoding))
    assert readers.read_file(path)[0].messages[0].content == "hé"


def test_a_damaged_header_is_named_and_an_odd_one_read(tmp_path):
    path = write(tmp_path / "x.csv", [row(0, "rohan", "hi")], HEADER.replace("Author,", "Author;"))
    with pytest.raises(NotAnExport, match="has a damaged header"):
        readers.read_file(path)
    write(path, [row(0, "rohan", "hi")], HEADER.replace(",Reactions", ",,Reactions"))
    with pytest.raises(NotAnExport, match="row"):
        readers.read_file(path)


def test_rows_from_before_discord_are_counted(tmp_path):
    path = write(tmp_path / "x.csv", [row(0, "rohan", "hi"), row(0, "mags", "old").replace("2024", "2004")])
    (export,) = readers.read_file(path)
    assert len(export.messages) == 1 and "has 1 rows from before Discord" in export.warnings[0]
