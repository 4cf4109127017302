"""The data package that Discord sends to a person on request -> Exports. It holds that person's own messages alone.

The names of the top folders are translated and have changed over the years, so the folder of messages is known by what
is in it: `123456789012345678/channel.json`, with or without a `c` before the id. Beside each stands `messages.json`
(since 2024) or `messages.csv`, with ID, Timestamp, Contents and Attachments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from utils.chatlogs.message import Message
from utils.chatlogs.sources import own_messages
from utils.chatlogs.sources.export import (
    LARGEST_ID,
    OWN_MESSAGES_ONLY,
    ChannelInfo,
    Export,
    NotAnExport,
)
from utils.chatlogs.sources.own_messages import Own
from utils.chatlogs.sources.source_files import SourceFile, as_utf_8

OWNER_UNKNOWN = 1  # the author's id where nothing says whose package it is

_FOLDER = re.compile(r"c?([0-9]{16,32})\Z")
_NOT_MESSAGES = frozenset(["account", "activity", "activities", "ads", "programs", "servers", "support_tickets"])
_THREAD_TYPES = frozenset(["10", "11", "12"])


class _Channel(msgspec.Struct):
    id: int
    type: str | int = ""
    name: str | None = None
    guild: _Guild | None = None
    recipients: tuple[str | int, ...] | None = None


class _Guild(msgspec.Struct):
    id: int = 0
    name: str | None = None


@dataclass(frozen=True)
class Owner:
    id: int = OWNER_UNKNOWN
    name: str = "me"
    nickname: str = ""


@dataclass
class Package:
    """One package: the folder of its messages, and in it each channel's description with its messages."""

    root: Path
    channels: list[tuple[SourceFile, SourceFile]] = field(default_factory=list)
    index: SourceFile | None = None
    user: SourceFile | None = None


def claim(files: Sequence[SourceFile]) -> tuple[list[Package], list[SourceFile]]:
    """The packages among the files, and the files that belong to none."""
    roots = dict.fromkeys(file.path.parent.parent for file in files if _describes_channel(file.path))
    if not roots:
        return [], list(files)
    packages = {root: Package(root) for root in roots}
    tops = {root.parent: packages[root] for root in roots}
    folders: dict[Path, dict[str, SourceFile]] = {}
    rest = []
    for file in files:
        root, folder = file.path.parent.parent, file.path.parent
        if root in packages and _FOLDER.match(folder.name):
            folders.setdefault(folder, {})[file.path.name] = file
        elif folder in packages:
            if file.path.name == "index.json":
                packages[folder].index = file
        elif root in tops and file.path.name == "user.json":
            tops[root].user = file
        elif not any(top in file.path.parents and _side_room(file.path, top) for top in tops):
            rest.append(file)
    for folder, found in folders.items():
        messages = found.get("messages.json") or found.get("messages.csv")
        if "channel.json" in found and messages:
            packages[folder.parent].channels.append((found["channel.json"], messages))
    return list(packages.values()), rest


def _describes_channel(path: Path) -> bool:
    return path.name == "channel.json" and _FOLDER.match(path.parent.name) is not None


def _side_room(path: Path, top: Path) -> bool:
    below = path.relative_to(top).parts
    return len(below) > 1 and below[0].lower() in _NOT_MESSAGES


def read(package: Package, owner: Owner) -> Iterator[Export]:
    """One export a channel. What is damaged is left out with a warning in the export of its channel."""
    names = _channel_names(package.index)
    for described, messages in package.channels:
        folder_id = int(_FOLDER.match(described.path.parent.name)[1])
        export = Export(ChannelInfo(folder_id, names.get(str(folder_id), "")), [], OWN_MESSAGES_ONLY)
        try:
            channel = read_channel(described)
            kind = str(channel.type)
            export.channel = ChannelInfo(
                id=channel.id if 0 < channel.id <= LARGEST_ID else folder_id,
                name=channel.name or export.channel.name,
                guild_id=channel.guild.id if channel.guild else 0,
                guild_name=(channel.guild.name or "") if channel.guild else "",
                is_thread="THREAD" in kind or kind in _THREAD_TYPES,
            )
        except (NotAnExport, OSError) as reason:
            export.warnings.append(f"({described.path.parent.name}/channel.json) {reason}")
        if not 0 < export.channel.id <= LARGEST_ID:
            continue
        try:
            found = own_messages.read(messages, export.warnings)
        except (NotAnExport, OSError) as reason:
            export.warnings.append(f"({messages.path.parent.name}/{messages.path.name}) {reason}")
            found = []
        export.messages += [_to_message(own, export.channel.id, owner) for own in found]
        yield export


def _to_message(own: Own, channel_id: int, owner: Owner) -> Message:
    return Message(
        own.ID,
        channel_id,
        own.unix_ms(),
        owner.id,
        owner.name,
        str(own.contents if own.contents is not None else ""),
        owner.nickname,
        attachments=len((own.attachments or "").split()),
    )


# Files ---------------------------------------------------------------------------------------------------------------


def read_channel(file: SourceFile) -> _Channel:
    try:
        return msgspec.json.decode(as_utf_8(file.read()), type=_Channel, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotAnExport("can't be read") from None


def _channel_names(index: SourceFile | None) -> dict[str, str]:
    try:
        found = msgspec.json.decode(as_utf_8(index.read())) if index else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotAnExport, OSError):
        return {}
    return {str(key): name for key, name in found.items() if isinstance(name, str)} if isinstance(found, dict) else {}
