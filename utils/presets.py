"""A YAML preset: `name: value` lines that hold differences only, named by `--config`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import records
from utils.console import UserError

if TYPE_CHECKING:
    import yaml


def path(argv: Sequence[str]) -> Path | None:
    """The preset that the arguments name, or None.

    Raises UserError where `--config` stands without a path, or twice.
    """
    given = [(index, argument) for index, argument in enumerate(argv) if argument.split("=")[0] == "--config"]
    if not given:
        return None
    if len(given) > 1:
        raise UserError("--config takes one preset; put both into one file, or pass settings as flags")
    index, argument = given[0]
    _, is_joined, named = argument.partition("=")
    named = named if is_joined else next(iter(argv[index + 1 :]), "")
    if not named:
        raise UserError("--config needs the path of a YAML file, such as configs/t4.yaml")
    return Path(named)


def read(path: Path) -> dict[str, Any]:
    """The settings of a preset by name, as YAML has them. Raises UserError where it can't be read as such."""
    import yaml

    try:
        text = records.file_bytes(path).decode("utf-8")
        preset, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise UserError(f"no preset at {path}; the ones that come along are in configs/") from None
    except UnicodeDecodeError:
        raise UserError(f"the preset {path} is not in UTF-8; save it as that") from None
    except OSError as error:
        raise UserError(f"can't read the preset {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, a number of 5,000 digits
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if preset is None:
        return {}
    if not isinstance(preset, dict):
        raise UserError(f"{path} must hold `name: value` lines, one setting each")
    _refuse_repeated(tree, path)
    return {str(name): value for name, value in preset.items()}


def _refuse_repeated(preset: yaml.MappingNode, path: Path) -> None:
    """YAML itself takes the last of equal names, without a word."""
    lines: dict[str, int] = {}
    for name, _ in preset.value:
        line = name.start_mark.line + 1
        if name.value in lines:
            first = lines[name.value]
            raise UserError(f"{path} sets {name.value} twice, in lines {first} and {line}; keep one of them")
        lines[name.value] = line
