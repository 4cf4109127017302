"""Commands, empties and witnesses, and which stretches of a channel are looked at."""

import random

import pytest

from tests.chatlogs import stored
from utils.chatlogs.message import Message
from utils.chatlogs.sources.export import ChannelInfo, Export
from utils.chatlogs.storage import channels, selection


def say(number, author, content, **keys):
    return Message(number, 500, 1000 * number, author, "x", content, **keys)


def select(*messages):
    """The kinds of all messages, those of the persona's own, and the ids of the messages that are kept."""
    counts, pieces = channels.around(stored.in_channel(messages), persona_id=1)
    return counts.everybody, counts.persona, [message.id for piece in pieces for message in piece.messages]


def kinds(*messages):
    return dict(select(*messages)[0])


@pytest.mark.parametrize(
    "content", ["!play despacito", "/roll 2d6", "!rank", "!grub2 | ann", "!8ball will it", "!c++", "!x"]
)
def test_commands_are_left_out(content):
    assert kinds(say(1, 1, content)) == {"command": 1}


@pytest.mark.parametrize(
    "content",
    [
        "/etc/fstab is the file",
        "!!! wow",
        "...",
        "-5 degrees",
        ".bashrc it is",
        "/s",
        "ok!yes",
        "!2 of them",
        "!important;",
    ],
)
def test_what_only_looks_like_a_command_stays(content):
    assert kinds(say(1, 1, content)) == {"chat": 1}


def test_a_prefix_is_a_command_where_a_bot_answers_at_once():
    bot = say(2, 9, "pong", is_bot=True)
    assert kinds(say(1, 1, ".ping"), bot) == {"command": 1, "bot": 1}
    assert kinds(say(1, 1, "p!catch"), bot) == {"command": 1, "bot": 1}
    assert kinds(say(1, 1, ".ping"), say(60, 9, "hello", is_bot=True)) == {"chat": 1, "bot": 1}
    between = [say(n, 2, "hm") for n in (2, 3, 4)]
    assert kinds(say(1, 1, ".ping"), *between[:2], say(5, 9, "pong", is_bot=True))["command"] == 1
    assert "command" not in kinds(say(1, 1, ".ping"), *between, say(5, 9, "pong", is_bot=True))


def test_every_kind_is_counted_and_the_personas_own_apart():
    everybody, own, kept = select(
        say(1, 1, "joined", is_system=True),
        say(2, 1, "theirs", is_forward=True),
        say(3, 1, " ", attachments=1),
        say(4, 2, ""),
        say(5, 1, "hello"),
    )
    assert everybody == {"system": 1, "forward": 1, "file_or_sticker_only": 1, "empty": 1, "chat": 1}
    assert own == {"system": 1, "forward": 1, "file_or_sticker_only": 1, "chat": 1}
    assert kept == [1, 2, 3, 5]


def test_far_from_the_persona_only_what_it_replies_to_is_kept():
    messages = [say(n, 2, "x") for n in range(2000)] + [say(3000, 1, "yes", reply_to=7)]
    assert select(*messages)[2] == [7, *range(1500, 2000), 3000]


def test_pieces_hold_what_one_long_look_would():
    """Against a plain reading of the rule: 500 messages before each of the persona's own and 60 after it."""
    chance = random.Random(3)
    messages = [say(n, 1 if chance.random() < 0.001 else 2, chance.choice(["x", "x", "x", ""])) for n in range(9000)]
    kept = [message for message in messages if message.content]
    near = set()
    for place, message in enumerate(kept):
        if message.author_id == 1:
            near |= {one.id for one in kept[max(0, place - 500) : place + 61]}
    assert select(*messages)[2] == sorted(near)


@pytest.mark.parametrize(("batch", "piece"), [(4_000, 30_000), (1_000, 700), (1, 1), (10**6, 1)])
def test_of_many_channels_each_gives_what_it_would_alone(monkeypatch, batch, piece):
    """The same ids stand in all of them, so that a reply would find its message in any."""
    monkeypatch.setattr(channels, "BATCH_MESSAGES", batch)
    monkeypatch.setattr(selection, "PIECE_MESSAGES", piece)
    chance = random.Random(4)

    def message(number, channel):
        author = 1 if chance.random() < 0.01 else 2
        reply_to = chance.randrange(number) if number and chance.random() < 0.3 else None
        return Message(number, channel, 1000 * number, author, "x", chance.choice(["x", "x", ""]), reply_to=reply_to)

    exports = [
        Export(ChannelInfo(channel), [message(number, channel) for number in range(length)])
        for channel, length in enumerate([3, 900, 1, 40, 2500, 7, 900], start=500)
    ]

    def kept(chosen):
        _, pieces = channels.around(stored.in_memory(chosen), persona_id=1)
        return [(piece.info.id, [one.id for one in piece.messages], piece.persona_alone) for piece in pieces]

    together = kept(exports)
    assert together == [piece for export in exports for piece in kept([export])]
    assert len({channel for channel, *_ in together}) > 2


def test_a_long_stretch_ends_where_the_persona_is_silent(monkeypatch):
    monkeypatch.setattr(selection, "PIECE_MESSAGES", 1000)
    found = list(selection.stretches([*range(1000, 3000, 50), *range(3100, 4000, 50)]))
    assert found == [(500, 3010), (3011, 4010)]
    assert [len(piece) for piece in selection.pieces(found)] == [1, 1]


def test_a_channel_of_the_persona_alone_is_known_as_such():
    _, pieces = channels.around(stored.in_channel([say(1, 1, "a"), say(2, 1, "b")]), persona_id=1)
    assert next(pieces).persona_alone
    _, pieces = channels.around(stored.in_channel([say(1, 1, "a"), say(2, 2, "")]), persona_id=1)
    assert not next(pieces).persona_alone


def test_a_thread_that_an_excluded_author_started_comes_without_its_title():
    thread = Message(8, 7, 8000, 1, "x", "yes")
    room = Export(ChannelInfo(500, "room"), [say(7, 2, "is soup a drink?")])
    connection = stored.in_memory([room, Export(ChannelInfo(7, "is soup a drink?", is_thread=True), [thread])])
    assert [info.name for info in channels.infos(connection).values()] == ["is soup a drink?", "room"]
    assert [info.name for info in channels.infos(connection, {2}).values()] == ["", "room"]
    _, pieces = channels.around(connection, persona_id=1, excluded_ids={2})
    assert [piece.info.name for piece in pieces] == [""]
