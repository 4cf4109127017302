"""Zips: read member by member, with limits, and what is refused."""

import json
import zipfile

import pytest

from tests.chatlogs import discord_files as files
from utils.chatlogs.sources import archive, readers
from utils.chatlogs.sources.export import NotAnExport


def export(number):
    return json.dumps(files.document([files.message(number, "rohan", f"text {number}")], channel=500 + number))


def zipped(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, data in members:
            opened.writestr(name, data)
    return path


def skipped(reading, folder):
    return {str(path.relative_to(folder)): reason for path, reason in reading.skipped}


def test_members_are_read_in_order_and_nothing_is_unpacked(tmp_path):
    path = zipped(
        tmp_path / "a.zip", ("x/c [part 10].json", export(2)), ("x/c [part 2].json", export(1)), ("c.json", export(0))
    )
    reading = readers.read_source(path)
    assert [export.messages[0].content for export in reading.exports] == ["text 0", "text 1", "text 2"]
    assert list(tmp_path.iterdir()) == [path] and reading.skipped == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_and_nested_archives_are_refused_and_the_rest_goes_on(tmp_path):
    inner = zipped(tmp_path / "inner", ("a.json", export(5))).read_bytes()
    members = [("a.json", export(0)), ("a.json", export(1)), ("b.json", export(2)), ("n.zip", inner), ("n.bin", inner)]
    zipped(tmp_path / "a.zip", *members, ("notes.txt", "x"), ("__MACOSX/._b.json", "x"), (".hidden.json", "x"))
    (tmp_path / "inner").unlink()
    reading = readers.read_source(tmp_path)
    assert [export.messages[0].content for export in reading.exports] == ["text 2"]
    assert skipped(reading, tmp_path) == {
        "a.zip/a.json": "stands 2 times in the archive, so it is not clear which one is meant",
        "a.zip/n.zip": "is an archive inside an archive; unpack the outer one first",
        "a.zip/n.bin": "is an archive inside an archive; unpack the outer one first",
        "a.zip/notes.txt": "is of a kind that is not read",
    }


def test_an_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a.json", export(0)), ("b.json", export(1)), compression=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + 6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    reading = readers.read_source(tmp_path)
    assert len(reading.exports) == 1
    assert skipped(reading, tmp_path) == {"a.zip/a.json": "is encrypted; unpack the archive with its password first"}


def test_a_bomb_is_refused(tmp_path):
    zipped(tmp_path / "a.zip", ("a.json", b'{"guild": ' + b" " * (64 << 20)), ("b.json", export(1)))
    reading = readers.read_source(tmp_path)
    assert len(reading.exports) == 1
    assert skipped(reading, tmp_path) == {
        "a.zip/a.json": "would unpack to more than 200 times its size, as no chat does"
    }


@pytest.mark.parametrize(
    ("limit", "reason"), [("MAX_ENTRIES", "holds 2 files, more than 1"), ("MAX_BYTES", "would unpack")]
)
def test_too_much_is_refused_as_a_whole(tmp_path, monkeypatch, limit, reason):
    path = zipped(tmp_path / "a.zip", ("a.json", export(0)), ("b.json", export(1)))
    monkeypatch.setattr(archive, limit, 1)
    with pytest.raises(NotAnExport, match=reason):
        archive.members(path)


def test_a_damaged_member_costs_no_other(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a.json", export(0)), ("b.json", export(1)), compression=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"text 0", b"text X"))
    reading = readers.read_source(tmp_path)
    assert [export.messages[0].content for export in reading.exports] == ["text 1"]
    assert "can't be taken out of the archive (Bad CRC-32" in skipped(reading, tmp_path)["a.zip/a.json"]


def test_a_name_that_climbs_out_stays_a_name(tmp_path):
    zipped(tmp_path / "a.zip", ("../../a.json", export(0)), ("/b.json", export(1)))
    assert len(readers.read_source(tmp_path).exports) == 2


def test_what_only_starts_like_a_zip_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(archive.START + b"x" * 100)
    files.write(tmp_path / "b.json", [files.message(0, "rohan", "x")])
    zipped(tmp_path / "letter.docx", ("[Content_Types].xml", "x"))
    reading = readers.read_source(tmp_path)
    assert "is no zip archive in good order" in skipped(reading, tmp_path)["a.zip"]
    assert skipped(reading, tmp_path)["letter.docx"] == "is of a kind that is not read"


def test_an_empty_archive_is_named(tmp_path):
    zipped(tmp_path / "a.zip", ("folder/", ""))
    files.write(tmp_path / "b.json", [files.message(0, "rohan", "x")])
    assert skipped(readers.read_source(tmp_path), tmp_path) == {"a.zip": "is an archive without files"}
