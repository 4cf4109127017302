"""Discord's text -> plain text: markup resolved, noise and invisible tricks removed, control tokens taken apart.

Code keeps its markup: inside backticks only what could harm (control characters, bidi overrides, control tokens) goes.
Every pattern is linear in the text: each quantifier is bounded or can't match what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

_LINE_BREAK = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
# C0 and C1 but tab and line feed, zero-width space, word joiner, BOM, interlinear marks, bidi embeddings, overrides and
# isolates, lone surrogates. Joiners (ZWJ, ZWNJ) and variation selectors stay: emoji, Persian and Indic text need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u180e\u200b\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_TAG_RUN = re.compile("(\U0001f3f4?)[\U000e0000-\U000e007f]{1,64}")  # legal in flags only, after the black flag
_CODE = re.compile(r"(```.*?```|``[^`\n]{1,2000}``|`[^`\n]{1,2000}`)", re.DOTALL)
_MARKUP = re.compile(
    r"<@[!&]?(?P<mention>\d{1,20})>"
    r"|<#(?P<channel>\d{1,20})>"
    r"|<a?:(?P<emoji>\w{1,64}):\d{1,20}>"
    r"|<t:(?P<time>-?\d{1,13})(?::(?P<style>[tTdDfFsSR]))?>"
    r"|</(?P<command>[\w -]{1,100}):\d{1,20}>"
    r"|<id:\w{1,32}>"
    r"|<(?P<link>https?://[^\s<>]{1,2000})>"
    r"|(?P<lost>[@#](?:Unknown|deleted-(?:role|channel|user)|invalid-(?:user|role|channel))\b)"
    r"|(?<!@)@+(?P<everyone>(?:everyone|here)\b)"
)
_TIME_STYLES = {"t": "%H:%M", "T": "%H:%M:%S", "d": "%Y-%m-%d", "D": "%Y-%m-%d", "R": "%Y-%m-%d"}
_SPACES = re.compile(r"[^\S\n]{2,}")
_LINE_END_SPACES = re.compile(r"(?<![^\S\n])[^\S\n]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")
_WORD = re.compile(r"\w+")
_TELLING_SIGN = re.compile(r"[^\w\s.,*~-]")
_AFTER_MENTION = re.compile(r"(?!\w)\s?[,:;]?\s*")  # what ends an address
_AFTER_NAME = re.compile(r"(?:[:;]|\s?[,:;](?=\s|\Z))\s*")
_LINK = re.compile(r"\bhttps?://\S+")

# Text that a tokenizer or a chat template could take for its own marks: <s>, </s>, <|im_end|>, [INST], <<SYS>>,
# <start_of_turn>, <file_sep> and their like. One inserted space makes it ordinary text.
_CONTROL_TOKEN = re.compile(
    r"(?:<(?=[|｜])"
    r"|<(?=/?(?:s|unk|pad|bos|eos|cls|sep|mask|think|tools?|tool_call|tool_response|"
    r"(?:start|end)_of_(?:turn|text|image)|eot|repo_?name|file_?name|file_sep|gh_stars|empty_output|endoftext|"
    r"issue_(?:start|comment|closed)|jupyter_\w{1,16}|fim_\w{1,16}|unused\d{1,3}|0x[0-9a-f]{2})>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG|CLS|SEP|PAD|UNK|MASK)\])"
    r"|<<(?=/?SYS>>))",
    re.IGNORECASE,
)


def clean(text: str, person_name: Callable[[int], str], channel_name: Callable[[int], str]) -> str:
    """The text of one message as a person sees it. A mention whose id has the name "" disappears."""
    text = remove_invisible(text)

    def resolve(match: re.Match[str]) -> str:
        kind = match.lastgroup
        if kind == "mention":
            name = person_name(int(match["mention"])) if "&" not in match[0] else ""
            return f"@{name}" if name else ""
        if kind == "channel":
            name = channel_name(int(match["channel"]))
            return f"#{name}" if name else ""
        if kind in ("time", "style"):
            return _moment(int(match["time"]), match["style"])
        if kind == "emoji":
            return f":{match['emoji']}:"
        if kind == "command":
            return f"/{match['command']}"
        return match[kind] if kind in ("link", "everyone") else ""

    def tidy(piece: str) -> str:
        piece = _SPACES.sub(" ", _MARKUP.sub(resolve, piece))
        return _BLANK_LINES.sub("\n\n", _LINE_END_SPACES.sub("", piece))

    text = outside_code(text, tidy)
    return split_control_tokens(text).strip()


def remove_invisible(text: str) -> str:
    """Every line break as a line feed; control characters, bidi overrides and other invisible tricks removed."""
    if text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text))
    return _TAG_RUN.sub(lambda match: match[0] if match[1] else "", text)


def split_control_tokens(text: str) -> str:
    """The same text with a space inside whatever a tokenizer could take for a control token."""
    if "<" not in text and "[" not in text:
        return text
    return _CONTROL_TOKEN.sub(r"\g<0> ", text)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Applies `change` to what stands between code blocks and inline code; an unclosed fence opens no block."""
    if "`" not in text:
        return change(text)
    return "".join(piece if index % 2 else change(piece) for index, piece in enumerate(_CODE.split(text)))


def without_address(text: str, names: Sequence[str]) -> str:
    """Without `@name`, `name:` or `name,` at the start; `names` are in small letters."""
    for mark, rest in (("@", _AFTER_MENTION), ("", _AFTER_NAME)):
        for name in names if text.startswith(mark) else ():
            end = len(mark) + len(name)
            found = rest.match(text, end) if text[len(mark) : end].lower() == name else None
            if found is not None:
                return text[found.end() :]
    return text


def is_only_links(text: str) -> bool:
    return "://" in text and not _LINK.sub("", text).strip(" \n<>()|*_.,-")


def word_count(text: str) -> int:
    """How many words; what says something without any, such as `:)` or `?`, counts as one, and dots as none."""
    return len(_WORD.findall(text)) or int(bool(_TELLING_SIGN.search(text)))


def _moment(unix_seconds: int, style: str | None) -> str:
    try:
        moment = datetime.fromtimestamp(unix_seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime(_TIME_STYLES.get(style or "f", "%Y-%m-%d %H:%M"))
