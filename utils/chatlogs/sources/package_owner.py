"""Whose data package it is: what the package says, else who wrote the same messages in an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from utils.chatlogs.sources.data_package import Owner, Package, read, read_channel
from utils.chatlogs.sources.discord_csv import CsvFile
from utils.chatlogs.sources.export import DISCORD_EPOCH_MS, LARGEST_ID, Export, NotAnExport, is_id
from utils.chatlogs.sources.source_files import as_utf_8


class _User(msgspec.Struct):
    id: int
    username: str = ""
    global_name: str | None = None


def stated(package: Package) -> Owner | None:
    """By the account's file, else the one who takes part in all direct messages, else None."""
    if package.user is not None:
        try:
            user = msgspec.json.decode(as_utf_8(package.user.read()), type=_User, strict=False)
            if 0 < user.id <= LARGEST_ID:
                return Owner(user.id, user.username or "me", user.global_name or "")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotAnExport, OSError):
            pass
    groups = []
    for described, _ in package.channels:
        try:
            recipients = {str(one) for one in read_channel(described).recipients or () if is_id(str(one))}
        except (NotAnExport, OSError):
            continue
        if len(recipients) > 1:
            groups.append(recipients)
    common = set.intersection(*groups) if len(groups) > 1 else set()
    return Owner(int(common.pop())) if len(common) == 1 else None


class Whose:
    """Finds the owners of packages that state none, among the authors of the exports that hold the same messages."""

    def __init__(self, packages: Sequence[Package]) -> None:
        self._ids: dict[int, set[int]] = {}
        self._said: dict[int, set[tuple[int, int | str]]] = {}  # (channel, the id's millisecond), (channel, the words)
        for package in packages:
            ids, said = self._ids.setdefault(id(package), set()), self._said.setdefault(id(package), set())
            for export in read(package, Owner()):
                ids.update(message.id for message in export.messages)
                for message in export.messages:
                    said.add((export.channel.id, (message.id >> 22) + DISCORD_EPOCH_MS))
                    said.add((export.channel.id, message.content))
        self._found: dict[int, Owner] = {}
        self._votes: dict[int, Counter[Owner]] = {key: Counter() for key in self._ids}

    def look_at(self, export: Export) -> None:
        for key, ids in self._ids.items():
            if key not in self._found:
                ours = next((message for message in export.messages if message.id in ids), None)
                if ours is not None:
                    self._found[key] = Owner(ours.author_id, ours.author_name, ours.author_nickname)

    def look_at_rows(self, table: CsvFile) -> None:
        """A CSV has no ids, but who wrote at the same milliseconds, or with a coarser clock the same words."""
        for key, said in self._said.items():
            for row in table.rows:
                what = row.unix_ms if table.precision_ms == 1 else row.content
                if (table.channel.id, what) in said:
                    self._votes[key][Owner(row.author_id, row.author_name)] += 1

    def owner(self, package: Package, warnings: list[str]) -> Owner:
        """Somebody called `me` where nothing says who it is; `warnings` tells."""
        if id(package) not in self._found and self._votes[id(package)]:
            ((self._found[id(package)], _),) = self._votes[id(package)].most_common(1)
        if id(package) not in self._found:
            warnings.append(f"{package.root.name}/ doesn't say whose messages these are; the author is called me")
        return self._found.get(id(package), Owner())
