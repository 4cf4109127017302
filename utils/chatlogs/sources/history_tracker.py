"""Discord History Tracker's SQLite file -> Exports, one a channel. The file is opened for reading alone.

Every version of its schema: tables were renamed (`replied_to` became `message_replied_to`) and split (`attachments`).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

from utils.chatlogs.message import Message
from utils.chatlogs.sources.export import LARGEST_ID, LAST_MS, ChannelInfo, Export, NotAnExport
from utils.chatlogs.sources.source_files import SourceFile

START = b"SQLite format 3\0"

_MENTION = re.compile(r"<@!?([0-9]{1,19})>")
# A damaged database may also claim absurd sizes, and its names, in messages of errors too, need not be UTF-8.
_FAILURES = (sqlite3.Error, OverflowError, UnicodeDecodeError, MemoryError)
_REACTIONS = "CAST(TOTAL(MAX(count, 0)) AS INTEGER)"  # SUM fails where the total is beyond 64 bits
_JOURNAL_MODE = slice(18, 20)  # two bytes of the header; 1 is a file that stands alone, 2 one with a log beside it

Columns = dict[str, set[str]]  # table -> the names of its columns


def read(file: SourceFile) -> Iterator[Export]:
    """Exports in the order of the channels' ids. Raises NotAnExport where it is no such database, and OSError.

    A damaged database gives what can be read up to the damage, with a warning in the last export.
    """
    with closing(_connect(file)) as database:
        columns = _columns(database)
        if not {"message_id", "sender_id", "channel_id", "text", "timestamp"} <= columns.get("messages", set()):
            raise NotAnExport("is an SQLite database, but not Discord History Tracker's")
        infos, names = _describe(database, columns)
        export: Export | None = None
        rows = _rows(database, columns)
        unusable = 0
        problem = ""
        while True:
            try:
                row = next(rows, None)
            except _FAILURES as error:
                row, problem = None, f"is damaged ({error}); the messages before are kept"
            if row is None:
                break
            message = _to_message(row, names)
            if message is None:
                unusable += 1
                continue
            if export is None or export.channel.id != message.channel_id:
                if export is not None:
                    yield export
                export = Export(infos.get(message.channel_id, ChannelInfo(message.channel_id)), [])
            export.messages.append(message)
        if export is None:
            raise NotAnExport(problem or "holds no messages")
        if unusable:
            export.warnings.append(f"has {unusable} messages without a usable id, author or time; they are left out")
        if problem:
            export.warnings.append(problem)
        yield export


def _connect(file: SourceFile) -> sqlite3.Connection:
    try:
        if file.on_disk:
            address = f"file:{quote(str(file.path.absolute()))}?mode=ro"
            with_log = file.path.with_name(file.path.name + "-wal").exists()
            database = sqlite3.connect(address if with_log else f"{address}&immutable=1", uri=True)
        else:
            data = bytearray(file.read())
            data[_JOURNAL_MODE] = b"\1\1"
            database = sqlite3.connect(":memory:")
            database.deserialize(bytes(data))
        database.text_factory = lambda text: text.decode("utf-8", "replace")
        database.execute("PRAGMA query_only = ON")
        database.execute("PRAGMA trusted_schema = OFF")
    except _FAILURES as error:
        raise NotAnExport(f"is an SQLite database that can't be opened ({error})") from None
    return database


def _columns(database: sqlite3.Connection) -> Columns:
    """Real tables alone: a view could compute anything, for as long as it likes."""
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: {row[1] for row in database.execute("SELECT * FROM pragma_table_info(?)", (name,))} for name in tables
        }
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_CANTOPEN":  # without its log, where that can't be opened, it would be old
            why = "has a log beside it that can't be opened; copy both to a folder that can be written"
            raise NotAnExport(why) from None
        raise NotAnExport(f"is an SQLite database that can't be read ({error})") from None
    except _FAILURES as error:
        raise NotAnExport(f"is an SQLite database that can't be read ({error})") from None


def _describe(
    database: sqlite3.Connection, columns: Columns
) -> tuple[dict[int, ChannelInfo], dict[int, tuple[str, str]]]:
    """Channels by id; for each user id the account's name and the one that people see."""

    def rows(table: str, *wanted: str) -> list[tuple]:
        if not {wanted[0], wanted[1]} <= columns.get(table, set()):
            return []
        shown = ", ".join(name if name in columns[table] else "NULL" for name in wanted)
        try:
            return database.execute(f"SELECT {shown} FROM {table}").fetchall()
        except _FAILURES:
            return []

    servers = {row[0]: row for row in rows("servers", "id", "name", "type")}
    channels = {row[0]: row for row in rows("channels", "id", "name", "server", "parent_id") if _is_id(row[0])}
    infos = {}
    for channel_id, name, server_id, parent_id in channels.values():
        _, guild_name, kind = servers.get(server_id, (0, "", ""))
        in_guild = kind == "SERVER" and _is_id(server_id)
        # A channel's parent may also be a category, and those are no channels here.
        is_thread = parent_id in channels
        infos[channel_id] = ChannelInfo(
            channel_id, str(name or ""), server_id if in_guild else 0, str(guild_name or ""), is_thread
        )
    users = rows("users", "id", "name", "display_name")
    return infos, {row[0]: (str(row[1] or ""), str(row[2] or "")) for row in users}


def _rows(database: sqlite3.Connection, columns: Columns) -> Iterator[tuple]:
    """(message, sender, channel, text, milliseconds, replied to, attachments, embeds, reactions), by channel and id."""
    replies = _table(columns, "message_replied_to", "replied_to", having="replied_to_id")
    if replies:
        # One answered message each: of a table without a key every copy would multiply the rows.
        first = f"SELECT message_id, MIN(replied_to_id) AS replied_to_id FROM {replies} GROUP BY message_id"
        reply, join = "r.replied_to_id", f" LEFT JOIN ({first}) r ON r.message_id = m.message_id"
    else:
        reply, join = "m.replied_to_id" if "replied_to_id" in columns["messages"] else "NULL", ""
    counts = []
    for table, what in (
        (_table(columns, "message_attachments", "attachments"), "COUNT(*)"),
        (_table(columns, "message_embeds", "embeds"), "COUNT(*)"),
        (_table(columns, "message_reactions", "reactions", having="count"), _REACTIONS),
    ):
        counts.append(f"c{len(counts)}.n" if table else "0")
        if table:
            name = f"c{len(counts) - 1}"
            grouped = f"SELECT message_id, {what} AS n FROM {table} GROUP BY message_id"
            join += f" LEFT JOIN ({grouped}) {name} ON {name}.message_id = m.message_id"
    query = (
        f"SELECT m.message_id, m.sender_id, m.channel_id, m.text, m.timestamp, {reply}, {', '.join(counts)} "
        f"FROM messages m{join} ORDER BY m.channel_id, m.message_id"
    )
    yield from database.execute(query)


def _table(columns: Columns, *names: str, having: str = "message_id") -> str:
    return next((name for name in names if {"message_id", having} <= columns.get(name, set())), "")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and 0 < value <= LARGEST_ID


def _to_message(row: tuple, names: dict[int, tuple[str, str]]) -> Message | None:
    message_id, sender_id, channel_id, text, unix_ms, reply_to, *counts = row
    if not (_is_id(message_id) and _is_id(sender_id) and _is_id(channel_id) and _is_id(unix_ms) and unix_ms < LAST_MS):
        return None
    name, nickname = names.get(sender_id, ("", ""))
    content = text if isinstance(text, str) else ""
    attachments, embeds, reactions = (count if isinstance(count, int) else 0 for count in counts)
    return Message(
        message_id,
        channel_id,
        unix_ms,
        sender_id,
        name,
        content,
        nickname,
        reply_to=reply_to if _is_id(reply_to) else None,
        mentions=tuple(dict.fromkeys(map(int, _MENTION.findall(content)))),
        attachments=attachments + embeds,
        reactions=reactions,
    )
