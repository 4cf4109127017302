"""Commands, empties and witnesses."""

import pytest

from utils.chatlogs.message import Message
from utils.chatlogs.selection import Counts, select


def say(number, author, content, **keys):
    return Message(number, 500, 1000 * number, author, "x", content, **keys)


def kinds(*messages):
    counts = Counts()
    select(messages, 1, counts)
    return dict(counts.everybody)


@pytest.mark.parametrize("content", ["!play despacito", "/roll 2d6", "!rank"])
def test_commands_are_left_out(content):
    assert kinds(say(1, 1, content)) == {"command": 1}


@pytest.mark.parametrize(
    "content", ["/etc/fstab is the file", "!!! wow", "...", "-5 degrees", ".bashrc it is", "/s", "ok!yes"]
)
def test_what_only_looks_like_a_command_stays(content):
    assert kinds(say(1, 1, content)) == {"chat": 1}


def test_a_prefix_is_a_command_where_a_bot_answers_at_once():
    bot = say(2, 9, "pong", is_bot=True)
    assert kinds(say(1, 1, ".ping"), bot) == {"command": 1, "bot": 1}
    assert kinds(say(1, 1, "p!catch"), bot) == {"command": 1, "bot": 1}
    assert kinds(say(1, 1, ".ping"), say(60, 9, "hello", is_bot=True)) == {"chat": 1, "bot": 1}


def test_every_kind_is_counted_and_the_personas_own_apart():
    counts = Counts()
    messages = [
        say(1, 1, "joined", is_system=True),
        say(2, 1, "theirs", is_forward=True),
        say(3, 1, " ", attachments=1),
        say(4, 2, ""),
        say(5, 1, "hello"),
    ]
    kept = select(messages, 1, counts)
    assert counts.everybody == {"system": 1, "forward": 1, "file_or_sticker_only": 1, "empty": 1, "chat": 1}
    assert counts.persona == {"system": 1, "forward": 1, "file_or_sticker_only": 1, "chat": 1}
    assert [message.id for message in kept] == [1, 2, 3, 5]


def test_far_from_the_persona_only_what_it_replies_to_is_kept():
    messages = [say(n, 2, "x") for n in range(2000)] + [say(3000, 1, "yes", reply_to=7)]
    kept = [message.id for message in select(messages, 1, Counts())]
    assert kept == [7, *range(1500, 2000), 3000]
