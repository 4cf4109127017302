"""Exports -> channels: one row per message, in the order of the ids, whatever was exported twice or backwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from utils.chatlogs.export import ChannelInfo, Export
from utils.chatlogs.message import Message


@dataclass(frozen=True)
class Channel:
    info: ChannelInfo
    messages: list[Message]


def gather(exports: Iterable[Export]) -> tuple[list[Channel], int]:
    """Channels in the order of their ids, and how many copies of messages were left out.

    Of two copies of a message the one from the newer export stays, and from the later file where neither is newer.
    """
    messages: dict[int, dict[int, Message]] = {}
    infos: dict[int, ChannelInfo] = {}
    read = 0
    for export in sorted(exports, key=attrgetter("exported_at_ms")):
        read += len(export.messages)
        infos[export.channel.id] = export.channel
        messages.setdefault(export.channel.id, {}).update({message.id: message for message in export.messages})
    channels = [
        Channel(infos[channel_id], sorted(by_id.values(), key=attrgetter("id")))
        for channel_id, by_id in sorted(messages.items())
    ]
    return channels, read - sum(len(channel.messages) for channel in channels)
