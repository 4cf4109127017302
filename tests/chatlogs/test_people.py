"""Finding the persona: a person is an id across renames, and a doubtful name is refused."""

import pytest

from tests.chatlogs import discord_files as files
from tests.chatlogs import stored
from utils.chatlogs import people
from utils.chatlogs.sources import readers
from utils.console import UserError


@pytest.fixture
def everybody(tmp_path):
    old = files.message(0, "tobster/Tobster", "a")
    new = files.message(1, "moth/Moth", "b")
    old["author"]["id"] = new["author"]["id"] = "77"
    other = files.message(2, "moth2/Moth", "c")
    left = files.message(3, "Deleted User/Deleted User", "d")
    messages = [old, new, other, left, files.message(4, "helperbot", "e")]
    messages += [files.message(5, "rohan", "f"), files.message(6, "rohan", "joined", type="GuildMemberJoin")]
    files.write(tmp_path / "a.json", messages)
    return people.list_people(stored.in_memory(readers.read_source(tmp_path).exports))


def test_a_renamed_person_is_one(everybody):
    assert people.find_persona(everybody, "tobster") is people.find_persona(everybody, "77")
    assert everybody[77].messages == 2 and set(everybody[77].names) == {"tobster", "Tobster", "moth", "Moth"}


def test_system_text_is_nobodys_message(everybody):
    assert people.find_persona(everybody, "@ROHAN").messages == 1


def test_an_ambiguous_name_is_refused_with_the_candidates(everybody):
    with pytest.raises(UserError, match=r"fits several people, so pass --persona with an id: 77 .*2 messages.*; 9005"):
        people.find_persona(everybody, "Moth")


def test_an_unknown_name_names_the_nearest(everybody):
    with pytest.raises(UserError, match="nobody called 'rohn' wrote in these exports; did you mean rohan"):
        people.find_persona(everybody, "rohn")


def test_half_a_name_names_the_most_active_whose_name_it_is_part_of(everybody):
    with pytest.raises(UserError, match=r"nobody called 'mo' wrote in these exports; did you mean [mM]oth or moth2\?$"):
        people.find_persona(everybody, "mo")


def test_bots_and_deleted_users_are_no_persona(everybody):
    with pytest.raises(UserError, match="is a bot"):
        people.find_persona(everybody, "helperbot")
    with pytest.raises(UserError, match="everybody who deleted"):
        people.find_persona(everybody, "Deleted User")


def test_without_a_persona_the_most_active_are_listed(everybody, capsys):
    with pytest.raises(UserError, match=r"set PERSONA in prepare_training_data\.py, or pass --persona"):
        people.find_persona(everybody, None)
    listed = capsys.readouterr().out
    assert listed.index("77") < listed.index("9005") and "helperbot" not in listed and "Deleted" not in listed
