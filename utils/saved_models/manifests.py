"""What a train script wrote about its result, training.json, as far as others rely on it.

The manifest is not signed: it proves that files belong together and catches accidents. Whoever can change a file can
change its sha256 here too, so everything that base and config can contradict is compared with them as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from utils import base_models
from utils.base_models import Quantization
from utils.console import UserError
from utils.saved_models import model_files

NAME = "training.json"
HELD_OUT = Path("data/processed/test.jsonl")

# Files that loading reads. One that the manifest does not list was put there after training.
READ_WHEN_LOADING = (
    "*.safetensors",
    "*.safetensors.index.json",
    "adapter_config.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "additional_chat_templates",
)


class Fingerprints(msgspec.Struct, frozen=True):
    tokenizer: str
    base_weights: str = msgspec.field(name="base weights")
    training_data: str | None = msgspec.field(name="training data", default=None)


class TrainedWith(msgspec.Struct, frozen=True):
    quantization: Quantization
    lora_rank: int
    lora_alpha: float
    method: Literal["lora", "rslora", "dora", "full"] = "lora"
    data_dir: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What is read of a train script's manifest; `sha256` is by name of file."""

    base_model: str
    base_path: str
    fingerprints: Fingerprints
    settings: TrainedWith
    sha256: dict[str, str]


def read(folder: Path, *needed: str) -> Manifest | None:
    """The folder's manifest, None when it has none.

    Raises UserError when it is not what a train script writes: fields missing, no sha256 of a `needed` file, a file
    name that leaves the folder.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        manifest = msgspec.convert(model_files.read_json(path), Manifest)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is not what a train script writes: {error}") from None
    outside = sorted(name for name in manifest.sha256 if not _is_plain(name))
    if outside:
        raise UserError(f"{path} lists {outside[0]!r}, a path that leaves the folder; no train script writes that")
    unlisted = set(needed) - manifest.sha256.keys()
    if unlisted:
        raise UserError(f"{path} is not what a train script writes: it lists no sha256 of {min(unlisted)}")
    return manifest


def held_out_file(folder: Path) -> Path:
    """test.jsonl of the data that the folder's model was trained on, where that is still there, else the one that
    prepare_training_data.py writes unless another place is named."""
    manifest = read(folder)
    if manifest and manifest.settings.data_dir:
        path = Path(manifest.settings.data_dir) / HELD_OUT.name
        if os.path.exists(path):  # noqa: PTH110 - on another machine it may be too long, or in a closed folder
            return path
    return HELD_OUT


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises UserError for a file that is missing, changed or added since training."""
    for name, digest in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing, though {NAME} lists it; train again or restore the folder")
        if base_models.sha256(path) != digest:
            raise UserError(f"{path} has changed since training ({NAME} has another sha256); restore the folder")
    present = {path.name for pattern in READ_WHEN_LOADING for path in folder.glob(pattern)}
    added = sorted(present - manifest.sha256.keys())
    if added:
        raise UserError(f"{folder / added[0]} was added since training ({NAME} does not list it); remove it")


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not any(mark in name for mark in "/\\:\0")
