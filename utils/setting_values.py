"""One value of a setting: from YAML, Python or the command line to the type that its schema declares."""

from __future__ import annotations

import difflib
import math
import os
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from utils.console import UserError

LONGEST_NAME_BYTES = 255  # of a file or folder, on every system; above that each call fails in its own way


def convert(value: Any, hint: Any, where: str) -> Any:
    """The value in the type of `hint`, within its bounds. Raises UserError, which begins with `where`."""
    if isinstance(value, str | Path) and plain(hint) == tuple[Path, ...]:
        value = (value,)  # one path where there may be several
    try:
        converted = msgspec.convert(value, hint, strict=False, dec_hook=_to_path, builtin_types=(Path,))
        if isinstance(converted, float) and not math.isfinite(converted):
            raise UserError(f"{where}: expected a finite `float`, not {converted}")
        if any(isinstance(each, str) and not _is_unicode(each) for each in _each(converted)):
            raise UserError(f"{where}: expected text in UTF-8, not {short(value)}")
        return converted
    except msgspec.ValidationError as error:
        choices = _choices(hint)
        if choices:
            raise UserError(f"{where}: {short(value)} is none of {', '.join(map(str, choices))}") from None
        quotes = "; put it in quotes" if "`str" in str(error) and type(value) is int else ""
        raise UserError(f"{where}: {str(error)[0].lower()}{str(error)[1:]}, not {short(value)}{quotes}") from None


def short(value: Any) -> str:
    """The value as a message shows it, in at most 100 characters."""
    shown = repr(str(value) if isinstance(value, Path) else value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_unicode(text: str) -> bool:
    """False for what Python makes of a command line's bytes that are no UTF-8: no file can be written with it."""
    return text.encode("utf-8", "replace").decode() == text


def _to_path(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path) and value != "":
        path = Path(value)
        if "\0" in str(path) or any(len(os.fsencode(part)) > LONGEST_NAME_BYTES for part in path.parts):
            raise msgspec.ValidationError(f"Expected `path` of names up to {LONGEST_NAME_BYTES} bytes")
        return path
    raise msgspec.ValidationError(f"Expected `{wanted.__name__.lower()}`")


def _choices(hint: Any) -> list[Any]:
    """The values that a `Literal`, optional or not, allows; none for other types."""
    whole = plain(hint)
    kinds = [kind for kind in (whole, *typing.get_args(whole)) if typing.get_origin(kind) is typing.Literal]
    return [choice for kind in kinds for choice in typing.get_args(kind)]


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that is most like it."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; --help lists the known ones"


def plain(hint: Any) -> Any:
    """The type alone, without its bounds and description."""
    return typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
