"""Settings: schema default < constant at the top of a script < YAML preset < command-line flag.

A stage's schema is a frozen dataclass whose fields are annotated with `msgspec.Meta`: the description is the line of
help, `gt`, `ge`, `lt` and `le` are the bounds. The schema is the only place where a setting is declared.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from utils import console, presets
from utils.console import UserError

Schema = TypeVar("Schema")
LONGEST_NAME_BYTES = 255  # of a file or folder, on every system; above that each call fails in its own way


@dataclass(frozen=True)
class Resolved(Generic[Schema]):
    """The settings of one run and, for each, where its value came from."""

    values: Schema
    origins: dict[str, str]


def resolve(schema: type[Schema], constants: Mapping[str, Any], argv: Sequence[str] | None = None) -> Resolved[Schema]:
    """Merges the four layers into an instance of `schema`.

    `constants` is the script's `globals()`; its UPPERCASE names are the settings that a person edits. `argv` defaults
    to the process's own arguments.

    Raises UserError for an unknown constant, YAML key or flag (naming the nearest known one) and for a value of the
    wrong type or out of bounds. Exits with 0 after `--help`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    script = Path(constants.get("__file__", "script")).name
    hints = typing.get_type_hints(schema, include_extras=True)
    values = {f.name: f.default for f in dataclasses.fields(schema)}
    origins = dict.fromkeys(values, "default")

    layers = [(f"{name} in {script}", name.lower(), value) for name, value in constants.items() if name.isupper()]
    preset = presets.path(argv)
    if preset is not None:
        layers += [(f"{name} in {preset}", name, value) for name, value in presets.read(preset).items()]
    for where, name, value in layers:
        if name not in values:
            raise UserError(f"unknown setting {where}{_nearest(name, values)}")
        values[name] = _convert(value, hints[name], where)
        origins[name] = where

    program = script if script.endswith(".py") else f"python -m utils.{script}"
    flags = _parse_flags(schema, hints, values, origins, argv, constants.get("__doc__"), program)
    for name, value in flags.items():
        values[name] = _convert(value, hints[name], f"--{name.replace('_', '-')}")
        origins[name] = "command line"
    return Resolved(schema(**values), origins)


def to_dict(settings: Any) -> dict[str, Any]:
    """The settings as plain JSON values, for saving beside a result; bytes of a path that are no UTF-8 become `�`."""
    return msgspec.to_builtins(settings, enc_hook=lambda path: os.fsencode(path).decode("utf-8", "replace"))


def show(resolved: Resolved[Any]) -> None:
    """Prints every setting that is not at its schema default, with where it came from."""
    chosen = {
        name: "none" if value is None else _shown(value)
        for name, value in to_dict(resolved.values).items()
        if resolved.origins[name] != "default"
    }
    width = max(map(len, chosen.values()), default=0)
    for name, value in chosen.items():
        console.say(f"{name:<28} {value:<{min(width, 40)}}  {resolved.origins[name].split(' in ')[-1]}")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)


def _convert(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, str | Path) and _plain(hint) == tuple[Path, ...]:
        value = (value,)  # one path where there may be several
    try:
        converted = msgspec.convert(value, hint, strict=False, dec_hook=_to_path, builtin_types=(Path,))
        if isinstance(converted, float) and not math.isfinite(converted):
            raise UserError(f"{where}: expected a finite `float`, not {converted}")
        return converted
    except msgspec.ValidationError as error:
        choices = _choices(hint)
        if choices:
            raise UserError(f"{where}: {_short(value)} is none of {', '.join(map(str, choices))}") from None
        quotes = "; put it in quotes" if "`str" in str(error) and type(value) is int else ""
        raise UserError(f"{where}: {str(error)[0].lower()}{str(error)[1:]}, not {_short(value)}{quotes}") from None


def _short(value: Any) -> str:
    shown = repr(str(value) if isinstance(value, Path) else value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."


def _to_path(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path) and value != "":
        path = Path(value)
        if "\0" in str(path) or any(len(os.fsencode(part)) > LONGEST_NAME_BYTES for part in path.parts):
            raise msgspec.ValidationError(f"Expected `path` of names up to {LONGEST_NAME_BYTES} bytes")
        return path
    raise msgspec.ValidationError(f"Expected `{wanted.__name__.lower()}`")


def _choices(hint: Any) -> list[Any]:
    """The values that a `Literal`, optional or not, allows; none for other types."""
    plain = _plain(hint)
    kinds = [kind for kind in (plain, *typing.get_args(plain)) if typing.get_origin(kind) is typing.Literal]
    return [choice for kind in kinds for choice in typing.get_args(kind)]


def _nearest(name: str, known: typing.Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{close[0]}?" if close else "; --help lists the known ones"


def _parse_flags(
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
            name = token.lstrip("-").split("=")[0].replace("-", "_")
            nearest = _nearest(name, values).replace("_", "-").replace("mean ", "mean --")
            raise UserError(f"unknown setting {token}{nearest}")
        if isinstance(event, InvalidChoice):
            raise UserError(f"{_flag(event)}: {_short(event.value)} is none of {', '.join(event.choices)}")
        reason = getattr(event, "message", None) or getattr(event, "reason", type(event).__name__)
        raise UserError(f"{_flag(event)}: {_plainly(reason)}")

    fields = []
    for name, hint in [*hints.items(), ("config", Path | None)]:
        default, origin = values.get(name), origins.get(name, "default")
        argument = tyro.conf.arg(help=_help(hint), help_behavior_hint=f"({default}, {origin})")
        fields.append((name, Annotated[_flag_type(_plain(hint)), argument], dataclasses.field(default=default)))
    command = dataclasses.make_dataclass(schema.__name__, fields, frozen=True)
    _refuse_empty_paths(hints, argv)
    with on_parse_error(one_line), console.reader_may_leave():
        parsed = tyro.cli(command, prog=program, args=argv, description=(description or "").strip())
    given = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in argv if argument.startswith("--")}
    given |= {name.removeprefix("no_") for name in given}
    return {name: getattr(parsed, name) for name in values if name in given}


def _flag_type(kind: Any) -> Any:
    """A type in the form that tyro can check a default against without typeguard, whose import takes as long as all the
    rest: of a tuple only that words follow, and `X | None` as a typing.Union."""
    if isinstance(kind, types.UnionType):
        return typing.Union[typing.get_args(kind)]  # noqa: UP007
    if typing.get_origin(kind) is not tuple:
        return kind
    from tyro.constructors import PrimitiveConstructorSpec

    item = typing.get_args(kind)[0].__name__.upper()
    words = PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[{item} [{item} ...]]",
        instance_from_str=tuple,
        is_instance=lambda _: True,
        str_from_instance=lambda value: list(map(str, value)),
    )
    return Annotated[object, words]


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
        hint = _plain(hints.get(flag.lstrip("-").replace("-", "_")))
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


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
