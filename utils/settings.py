"""Settings: schema default < constant at the top of a script < YAML preset < command-line flag.

A stage's schema is a frozen dataclass whose fields are annotated with `msgspec.Meta`: the description is the line of
help, `gt`, `ge`, `lt` and `le` are the bounds. The schema is the only place where a setting is declared.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from utils import console, flags, presets, setting_values
from utils.console import UserError

Schema = TypeVar("Schema")


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
            raise UserError(f"unknown setting {where}{setting_values.nearest(name, values)}")
        values[name] = setting_values.convert(value, hints[name], where)
        origins[name] = where

    program = script if script.endswith(".py") else f"python -m utils.{script}"
    given = flags.parse(schema, hints, values, origins, argv, constants.get("__doc__"), program)
    for name, value in given.items():
        values[name] = setting_values.convert(value, hints[name], f"--{name.replace('_', '-')}")
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
