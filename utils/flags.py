"""The command line: tyro's parsing, with one line for each mistake."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from utils import console
from utils.console import UserError
from utils.setting_values import nearest, plain, short


def parse(
    schema: type,
    hints: Mapping[str, Any],
    values: Mapping[str, Any],
    origins: Mapping[str, str],
    argv: Sequence[str],
    description: str | None,
    program: str,
) -> dict[str, Any]:
    """The settings named on the command line, parsed by tyro."""
    import tyro
    from tyro._errors import InvalidChoice, ParseErrorEvent, UnrecognizedArgs, on_parse_error

    def one_line(event: ParseErrorEvent) -> None:
        if isinstance(event, UnrecognizedArgs):
            token = event.tokens[0]
            known = [f"--{name.replace('_', '-')}" for name in values]
            raise UserError(f"unknown setting {token}{nearest(token.split('=')[0].replace('_', '-'), known)}")
        if isinstance(event, InvalidChoice):
            raise UserError(f"{_flag(event)}: {short(event.value)} is none of {', '.join(event.choices)}")
        reason = getattr(event, "message", None) or getattr(event, "reason", type(event).__name__)
        raise UserError(f"{_flag(event)}: {_plainly(reason)}")

    fields = []
    for name, hint in [*hints.items(), ("config", Path | None)]:
        default, origin = values.get(name), origins.get(name, "default")
        shown = (" ".join(map(str, default)) or "none") if isinstance(default, tuple) else default
        argument = tyro.conf.arg(help=_help(hint), help_behavior_hint=f"({shown}, {origin})")
        fields.append((name, Annotated[_flag_type(plain(hint)), argument], dataclasses.field(default=default)))
    command = dataclasses.make_dataclass(schema.__name__, fields, frozen=True)
    _refuse_empty_paths(hints, argv)
    with on_parse_error(one_line), console.reader_may_leave():
        parsed = tyro.cli(command, prog=program, args=argv, description=(description or "").strip())
    given = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in argv if argument.startswith("--")}
    given |= {name.removeprefix("no_") for name in given}
    return {name: getattr(parsed, name) for name in values if name in given}


def _flag_type(kind: Any) -> Any:
    """A type in the form that tyro can check a default against without typeguard, whose import takes as long as all the
    rest: of a tuple only that words follow, and `X | None` as a typing.Union. What is on, off or unset is on where its
    flag stands alone."""
    if kind == bool | None:
        return _words("[{True,False,None}]", _answer)
    if isinstance(kind, types.UnionType):
        return typing.Union[typing.get_args(kind)]  # noqa: UP007
    if typing.get_origin(kind) is not tuple:
        return kind
    item = typing.get_args(kind)[0].__name__.upper()
    return _words(f"[{item} [{item} ...]]", tuple)


def _words(shown: str, convert: Callable[[list[str]], Any]) -> Any:
    """A type of any number of words."""
    from tyro.constructors import PrimitiveConstructorSpec

    words = PrimitiveConstructorSpec(
        nargs="*",
        metavar=shown,
        instance_from_str=convert,
        is_instance=lambda _: True,
        str_from_instance=lambda value: list(map(str, value if isinstance(value, tuple) else [value])),
    )
    return Annotated[object, words]


def _answer(words: list[str]) -> bool | None:
    answers = {"true": True, "false": False, "none": None}
    said = " ".join(words) if words else "true"
    if said.lower() not in answers:
        raise ValueError(f"expected True, False or None, not {short(said)}")
    return answers[said.lower()]


def _plainly(reason: str) -> str:
    """Python's words for text that is no number, in those of the other layers."""
    no_int = re.match(r"invalid literal for int\(\) with base 10: (.{0,80})", reason, re.DOTALL)
    no_float = re.match(r"could not convert string to float: (.{0,80})", reason, re.DOTALL)
    if no_int or reason.startswith("Exceeds the limit"):
        return f"expected `int`, not {no_int[1]}" if no_int else "expected `int`, not one of thousands of digits"
    neither = re.match(
        r"[Nn]o type matching .{0,80}? could be instantiated\s+from\s+\['(.{0,80}?)'\]", reason, re.DOTALL
    )
    if neither:
        return f"expected a number or None, not '{neither[1]}'"
    return f"expected `float`, not {no_float[1]}" if no_float else reason.replace("_", " ")


def _refuse_empty_paths(hints: Mapping[str, Any], argv: Sequence[str]) -> None:
    """To pathlib an empty path is the current folder; from a shell it is a variable that was never set."""
    flag = ""
    for argument in argv:
        if argument.startswith("--"):
            flag, _, argument = argument.partition("=")
            argument = argument if _ else flag
        hint = plain(hints.get(flag.lstrip("-").replace("-", "_")))
        if argument == "" and (hint is Path or Path in typing.get_args(hint)):
            raise UserError(f"{flag}: expected `path`, not ''")


def _flag(event: Any) -> str:
    argument = getattr(event, "argument", None)
    return argument.display_name().split("/")[0] if argument else "command line"


def _help(hint: Any) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return "A YAML preset that holds differences only."
