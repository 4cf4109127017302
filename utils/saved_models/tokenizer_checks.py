"""Whether a tokenizer that comes with an adapter is the one of its base."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import base_models, prompts
from utils.base_models import BaseModel
from utils.console import UserError
from utils.records import Record
from utils.saved_models import model_files, template_trial

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG = "tokenizer_config.json"


def read(base: BaseModel) -> PreTrainedTokenizerBase:
    """`base_models.load_tokenizer` for a folder that nobody vouches for: whatever is wrong with its files ends in a
    UserError. Its chat template is not run."""
    with _one_line_errors(base):
        return base_models.load_tokenizer(base)


def load(base: BaseModel) -> PreTrainedTokenizerBase:
    """`read`, and whatever its chat template does with a first record ends in a UserError as well, also where it would
    never end. Compare one that should be the base's before running it."""
    tokenizer = read(base)
    with _one_line_errors(base):
        template_trial.check(tokenizer.get_chat_template(), tuple(tokenizer.special_tokens_map.items()), base.name)
        prompts.encode(Record(instruction="hello", output="hi"), tokenizer)
    return tokenizer


@contextlib.contextmanager
def _one_line_errors(base: BaseModel) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # tokenizers and jinja raise many kinds, some of them plain Exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"can't load the tokenizer of {base.name}: {reason}") from error


def comes_with(folder: Path) -> bool:
    """Whether the folder brings a tokenizer with a chat template. Raises UserError when it would run code of its own,
    or has a configuration without a tokenizer."""
    if not (folder / CONFIG).is_file():
        return False
    config = model_files.read_json(folder / CONFIG)
    if config.get("auto_map"):
        raise UserError(f"{folder / CONFIG} asks for code of its own (auto_map), which is never run; remove it")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder} holds {CONFIG} without tokenizer.json; save the tokenizer anew or remove both")
    return bool(config.get("chat_template")) or (folder / "chat_template.jinja").is_file()


def differences(own: PreTrainedTokenizerBase, base: PreTrainedTokenizerBase) -> list[str]:
    """In what `own` is another tokenizer than `base`, worst first."""
    first, second = _parts(own), _parts(base)
    compared = {
        "vocabulary": (first["model"], _added(first)) == (second["model"], _added(second)),
        "end-of-turn token": own.eos_token == base.eos_token,
        "way of splitting text": all(
            first[part] == second[part] for part in ("normalizer", "pre_tokenizer", "decoder")
        ),
        "chat template": own.chat_template == base.chat_template,
    }
    return [name for name, same in compared.items() if not same]


def _parts(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return json.loads(tokenizer.backend_tokenizer.to_str())


def _added(parts: dict[str, Any]) -> dict[str, int]:
    return {token["content"]: token["id"] for token in parts["added_tokens"]}
