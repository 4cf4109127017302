"""Chats that somebody has already made into examples -> Records: this project's own JSONL, OpenAI's and ShareGPT's.

    {"instruction": "...", "input": "...", "output": "..."}                  our records, and Alpaca's
    {"messages": [{"role": "user", "content": "..."}, ...]}                  OpenAI
    {"conversations": [{"from": "human", "value": "..."}, ...]}              ShareGPT

One object a line, or a JSON array of them, or a single object. The assistant's side is the persona. The texts come out
as they are: dialogues.py cleans them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from utils.chatlogs.sources import salvage
from utils.chatlogs.sources.export import NotAnExport
from utils.records import Record, Source

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
_ROLES = {
    **dict.fromkeys(["user", "human", "prompter", "customer"], USER),
    **dict.fromkeys(["assistant", "gpt", "chatgpt", "bot", "model", "ai", "bing", "bard", "claude"], ASSISTANT),
    **dict.fromkeys(["system", "developer"], SYSTEM),
}
# Inside a JSON string the quotes around such a word would stand behind backslashes, so chat text never looks like it.
_EXAMPLE = re.compile(
    rb'"role"\s{0,20}:\s{0,20}"|"from"\s{0,20}:\s{0,20}"(?:human|gpt|user|system|assistant|chatgpt|bot)"'
    rb'|"(?:instruction|output)"\s{0,20}:\s{0,20}"'
)
_DISCORD = re.compile(rb'"author"\s{0,20}:\s{0,20}\{|"guild"\s{0,20}:\s{0,20}\{|"channel"\s{0,20}:\s{0,20}\{')


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with these bytes holds examples, and no messages of Discord."""
    example, discord = _EXAMPLE.search(head), _DISCORD.search(head)
    return example is not None and (discord is None or example.start() < discord.start())


def read(data: bytes, name: str) -> tuple[list[Record], list[str]]:
    """The records in the file's order, a dialogue of several turns as one record a reply; what was wrong, in words.

    A dialogue is called `name/NUMBER` where it brings no name of its own. Raises NotAnExport where there is none.
    """
    items, problems = _items(data)
    found: list[Record] = []
    unusable = 0
    for number, item in enumerate(items, start=1):
        records = list(_records(item, f"{name}/{number}"))
        found += records
        unusable += not records
    if not found:
        raise NotAnExport("holds no example with a prompt and a reply")
    if unusable:
        problems.append(f"has {unusable} items without a prompt and a reply; they are left out")
    return found, problems


def _items(data: bytes) -> tuple[list[Any], list[str]]:
    try:
        whole = msgspec.json.decode(data)
        if not isinstance(whole, list):
            return [whole], []
        is_one_chat = bool(whole) and isinstance(whole[0], dict) and "role" in whole[0]
        return ([{"messages": whole}] if is_one_chat else whole), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if data.lstrip()[:1] == b"[":
        text = data.decode("utf-8", "surrogateescape")
        items, _, problems = salvage.decode_items(text, text.index("[") + 1)
        return items, problems
    items, damaged = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            items.append(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            damaged.append(number)
    return items, [f"has {len(damaged)} damaged lines, the first is line {damaged[0]}"] if damaged else []


def _records(item: Any, name: str) -> Iterator[Record]:
    if not isinstance(item, dict):
        return
    if isinstance(item.get("messages"), list):
        yield from _dialogue(map(_openai, item["messages"]), item, name)
    elif isinstance(item.get("conversations"), list):
        yield from _dialogue(map(_share_gpt, item["conversations"]), item, name)
    else:
        try:
            record = msgspec.convert({key: value for key, value in item.items() if value is not None}, Record)
        except msgspec.ValidationError:
            return
        if not record.source.conversation:  # its other fields may well be there
            record = msgspec.structs.replace(record, source=msgspec.structs.replace(record.source, conversation=name))
        yield record


def _source(name: str, turn: int) -> Source:
    return Source(conversation=name, turn=turn)


def _dialogue(messages: Iterable[tuple[str, str]], item: dict[str, Any], name: str) -> Iterator[Record]:
    """One record for each time the assistant speaks after the user; what one side says in a row is one turn."""
    system = item.get("system") if isinstance(item.get("system"), str) else ""
    turns: list[tuple[str, str]] = []  # (role, text), the two taking turns
    for role, text in messages:
        if role == SYSTEM:
            system = system or text
        elif role and text:
            if turns and turns[-1][0] == role:
                turns[-1] = (role, f"{turns[-1][1]}\n{text}")
            elif turns or role == USER:
                turns.append((role, text))
    history: tuple[tuple[str, str], ...] = ()
    for (_, asked), (_, said) in zip(turns[::2], turns[1::2], strict=False):
        yield Record(instruction=asked, output=said, system=system, history=history, source=_source(name, len(history)))
        history += ((asked, said),)


def _openai(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        return "", ""
    return _ROLES.get(str(message.get("role")).lower(), ""), _text(message.get("content"))


def _share_gpt(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict):
        return "", ""
    role = message["from"] if "from" in message else message.get("role")
    return _ROLES.get(str(role).lower(), ""), _text(message["value"] if "value" in message else message.get("content"))


def _text(content: Any) -> str:
    """A message's text; of several parts those that are text."""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str)).strip()
    return ""
