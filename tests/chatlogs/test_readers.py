"""Which files of a folder are read, and how several of them become channels."""

import os
from pathlib import Path

import pytest

from tests.chatlogs import discord_files as files
from utils.chatlogs.sources import readers, source_files
from utils.console import UserError


def together(folder):
    return files.laid_together(readers.read_source(folder).exports)


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path):
    for part in (10, 2, 1):
        suffix = "" if part == 1 else f" [part {part}]"
        files.write(tmp_path / f"S - c - general [500]{suffix}.json", [files.message(part, "rohan", f"part {part}")])
    contents = [export.messages[0].content for export in readers.read_source(tmp_path).exports]
    assert contents == ["part 1", "part 2", "part 10"]


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch):
    files.write(tmp_path / "open" / "a.json", [files.message(1, "rohan", "here")])
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(source_files.os, "access", lambda path, _: path.name != "closed")
    reading = readers.read_source(tmp_path)
    assert [path.name for path, reason in reading.skipped if reason.startswith("can't be read")] == ["closed"]
    assert len(reading.exports) == 1
    with pytest.raises(UserError, match="closed can't be read"):
        readers.read_source(tmp_path / "closed")


def test_links_to_folders_are_named_and_not_followed(tmp_path):
    files.write(tmp_path / "elsewhere" / "a.json", [files.message(1, "rohan", "there")])
    source = tmp_path / "source"
    source.mkdir()
    for name, target in (("linked", tmp_path / "elsewhere"), ("circle", "."), ("loop", "loop"), ("nowhere", "gone")):
        (source / name).symlink_to(target)
    with pytest.raises(
        UserError, match=r"circle is a link to a folder, which is not followed; name it .* \(and 1 more"
    ):
        readers.read_source(source)
    assert len(readers.read_source([source, source / "linked"]).exports) == 1


def test_parts_and_reversed_exports_become_one_channel_in_order(tmp_path):
    newest_first = [files.message(n, "rohan", str(n)) for n in (3, 2, 1)]
    files.write(tmp_path / "a.json", newest_first)
    files.write(tmp_path / "sub" / "b.json", [files.message(n, "mags", str(n)) for n in (0, 4)])
    (messages,) = together(tmp_path).values()
    assert [message.id - files.FIRST_ID for message in messages] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("newer", ["a", "b"])
def test_of_two_copies_the_newest_export_stays(tmp_path, newer):
    for name in ("a", "b"):
        exported = "2024-12-01T00:00:00+02:00" if name == newer else "2024-11-30T21:59:59+00:00"
        messages = [files.message(n, "rohan", f"{name}{n}") for n in range(2)]
        files.write(tmp_path / f"{name}.json", messages, exportedAt=exported)
    (messages,) = together(tmp_path).values()
    assert [message.content for message in messages] == [f"{newer}0", f"{newer}1"]


def test_the_same_id_in_two_channels_is_two_messages(tmp_path):
    files.write(tmp_path / "a.json", [files.message(0, "rohan", "a")], channel=1)
    files.write(tmp_path / "b.json", [files.message(0, "rohan", "b")], channel=2)
    found = together(tmp_path)
    assert {channel: len(messages) for channel, messages in found.items()} == {1: 1, 2: 1}


def test_what_is_no_export_is_counted_and_the_rest_goes_on(tmp_path):
    files.write(tmp_path / "a.json", [files.message(0, "rohan", "a")])
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "PLANTED.json").write_text('{"planted": []}')
    (tmp_path / "zero.json").touch()
    (tmp_path / ".hidden.json").write_text("x")
    reading = readers.read_source(tmp_path)
    assert len(reading.exports) == 1 and reading.warnings == []
    assert {path.name: reason for path, reason in reading.skipped} == {
        "README.md": "is of a kind that is not read",
        "PLANTED.json": "is JSON, but no DiscordChatExporter file",
        "zero.json": "is empty",
    }


def test_a_single_file_is_read(tmp_path):
    path = files.write(tmp_path / "a.json", [files.message(0, "rohan", "a")])
    assert len(readers.read_source(path).exports) == 1


def test_a_missing_path_and_a_pipe_are_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", "pipe"):
        with pytest.raises(UserError, match=rf"there is no file or folder at .*{name}; set SOURCE, or pass --source"):
            readers.read_source(tmp_path / name)


def test_an_empty_folder_says_how_to_export_and_how_to_try(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path("data/raw")):
        with pytest.raises(UserError, match=r"DiscordChatExporter.* as JSON into data/raw/.*--source data/sample"):
            readers.read_source(folder)


def test_a_folder_without_exports_names_the_reason(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="it holds nothing of a kind that is read"):
        readers.read_source(tmp_path)
    (tmp_path / "broken.json").write_text('{"guild": ')
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON"):
        readers.read_source(tmp_path)
