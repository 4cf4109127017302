"""An invented server in which a third person, who never agreed, stands in every place that an export has.

Their words carry a marker that names the place, `zqprompt` or `zqtitle`, so that a file tells how they came there.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.chatlogs import discord_files as files
from tests.privacy import planted

ID = 815_999_111_222_333_444
ACCOUNT, NICKNAME, FIRST_NAME = "vexaquill", "Zorbina Plimwick", "zorbina"
NAMES = (ACCOUNT, FIRST_NAME, "plimwick")
SPOKEN = {"zqhistory", "zqprompt", "zqthread", "zqlate"}
REPEATED = {"zqquoted", "zqrepeated"}  # by two other people, in messages of their own
BESIDE = {"zqserver", "zqbot"}  # the server's name, and what a bot repeated: not of a message that anybody learns from
UNREAD = {"zqfile", "zqembed", "zqsticker", "zqemoji", "zqforward", "zqpoll", "zqcategory", "zqtopic"}
PLACES = SPOKEN | REPEATED | BESIDE | UNREAD | {"zqtitle"}
SECRETS_IN_NAMES = ("title@example.org", "room@example.org", "nick@example.org")
THREAD = files.FIRST_ID + 2  # a thread has the id of the message that it was started from
DAYS = 24


def write(folder: Path) -> tuple[str, ...]:
    """Writes the exports, and gives every secret that stands in them, piece by piece."""
    rng = random.Random(7)
    secrets = [planted.one(rng, kind) for kind in (*planted.MAKERS, *planted.MAKERS) if kind != "private key"]
    bench, thread = _Channel(), _Channel(first=10_000)
    for day in range(DAYS):
        _a_day(bench, day, secrets)
    _odd_messages(bench)
    for day in range(4):
        asked = thread.add("third", f"zqthread {day}: is the tower {day} still leaning?", day)
        thread.add("rohan", f"since number {day}, yes, and it will stay so", day, to=asked)
    folder.mkdir(parents=True)
    for channel, name, kind, messages in (
        (500, "zorbina-room room@example.org", "GuildTextChat", bench.messages),
        (THREAD, "zqtitle of vexaquill, title@example.org", "GuildPublicThread", thread.messages),
    ):
        document = files.document(messages) | _described(channel, name, kind)
        (folder / f"Manor - {kind} [{channel}].json").write_text(json.dumps(document), encoding="utf-8")
    return (*(piece for one in secrets for piece in one.pieces), *SECRETS_IN_NAMES)


class _Channel:
    def __init__(self, first: int = 0):
        self.first = first
        self.messages: list[dict] = []

    def add(self, author: str, content: str, day: int, to: int | None = None, **keys: object) -> int:
        """Appends a message half a minute after the one before, and gives its number."""
        number = self.first + len(self.messages)
        seconds = 86_400 * day + 30 * len(self.messages)
        make = {"content": content, "seconds": seconds} | keys
        author_name = {"third": f"{ACCOUNT}/{NICKNAME}", "late": f"{ACCOUNT}/{NICKNAME} nick@example.org"}
        who = author_name.get(author, author)
        made = files.message(number, who, **make) if to is None else files.reply(number, who, to=to, **make)
        if author in author_name:
            made["author"]["id"] = str(ID)
        self.messages.append(made)
        return number


def _a_day(bench: _Channel, day: int, secrets: list[planted.Planted]) -> None:
    """The third person as who is answered, in the history, quoted, named, mentioned, and repeated by both others."""
    secret = secrets[day % len(secrets)].text
    first = bench.add("third", f"zqhistory {day}: the shelf {day} fell off the wall", day)
    bench.add("rohan", f"glue it back with {day} nails and a prayer", day, to=first)
    second = bench.add("third", f"zqprompt {day}: the lamp {day} hums\n{secret}", day)
    bench.add("rohan", f"unplug lamp {day} and wait, zorbina", day, to=second)
    named = bench.add(
        "mags", f"<@{ID}> or @{NICKNAME}, did vexaquill or Plimwick ask about roof {day}?", day, to=second
    )
    bench.add("rohan", f"@{ACCOUNT} did, about roof {day}. <@{ID}> always does", day, to=named)
    quoting = bench.add("mags", f"> zqquoted {day}: the shelf {day}\nwhat does that even mean {day}", day)
    bench.add("rohan", f"zqrepeated {day}: as she says, a shelf of {day} moods\n{secret}", day, to=quoting)
    bench.add("rohan", f"about that shelf {day}: it was mine all along", day, to=first)


def _odd_messages(bench: _Channel) -> None:
    """What stands beside the text of a message, and what is nobody's own words."""
    user = {"id": str(ID), "name": ACCOUNT, "nickname": NICKNAME, "isBot": False}
    file = {"id": "1", "url": "https://cdn.test/zqfile-vexaquill.png", "fileName": "zqfile-vexaquill.png"}
    embed = {
        "title": "zqembed by vexaquill",
        "url": "https://site.test/zqembed",
        "description": "zqembed",
        "author": user,
    }
    beside = {
        "attachments": [file],
        "embeds": [embed],
        "stickers": [{"id": "2", "name": "zqsticker vexaquill", "sourceUrl": "https://cdn.test/zqsticker"}],
        "reactions": [{"emoji": {"name": "zqemoji"}, "count": 1, "users": [user]}],
        "mentions": [user],
    }
    last = DAYS
    asked = bench.add("mags", "who hung the picture in the hall?", last, **beside)
    bench.add("rohan", "the same who hung the other one", last, to=asked, **beside)
    told = bench.add("mags", "", last + 1, forwardedMessage={"content": "zqforward", "author": user, **beside})
    bench.add("rohan", "why would you forward that one", last + 1, to=told)
    poll = {"question": {"text": "zqpoll of vexaquill"}, "answers": [{"text": "zqpoll"}]}
    asked = bench.add("third", "", last + 2, poll=poll)
    bench.add("rohan", "neither of the two answers", last + 2, to=asked)
    bench.add(
        "helperbot",
        "vexaquill said: zqbot",
        last + 3,
        embeds=[embed],
        interaction={"id": "3", "name": "quote", "user": user},
    )
    bench.add("rohan", "the bot has it right for once", last + 3)
    bench.add("third", "started a thread: zqtitle of vexaquill", last + 4, type="ThreadCreated")
    asked = bench.add("mags", f"the thread <#{THREAD}> in <#500> went quiet, no?", last + 4)
    bench.add("rohan", f"<#{THREAD}> went where <#500> goes", last + 4, to=asked)
    asked = bench.add("late", "zqlate: does the nickname count?", last + 5)
    bench.add("rohan", "a nickname counts as much as a name", last + 5, to=asked)


def _described(channel: int, name: str, kind: str) -> dict:
    return {
        "guild": {"id": "1", "name": "zqserver of Plimwick", "iconUrl": "https://cdn.test/zqserver.png"},
        "channel": {
            "id": str(channel),
            "type": kind,
            "category": "zqcategory",
            "name": name,
            "topic": "zqtopic of vexaquill",
        },
    }
