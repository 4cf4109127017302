"""Whose data package it is: what the package says, else who wrote the same messages in an export."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from utils.chatlogs.sources.data_package import Owner, Package, read, read_channel
from utils.chatlogs.sources.export import LARGEST_ID, Export, NotAnExport, is_id
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
        self._ids = {
            id(package): {message.id for export in read(package, Owner()) for message in export.messages}
            for package in packages
        }
        self._found: dict[int, Owner] = {}

    def look_at(self, export: Export) -> None:
        for key, ids in self._ids.items():
            if key not in self._found:
                ours = next((message for message in export.messages if message.id in ids), None)
                if ours is not None:
                    self._found[key] = Owner(ours.author_id, ours.author_name, ours.author_nickname)

    def owner(self, package: Package, warnings: list[str]) -> Owner:
        """Somebody called `me` where nothing says who it is; `warnings` tells."""
        if id(package) not in self._found:
            warnings.append(f"{package.root.name}/ doesn't say whose messages these are; the author is called me")
        return self._found.get(id(package), Owner())
