"""A model's files, looked at without loading the model: where they are, what they hold, whether they are whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import torch
from safetensors import SafetensorError, safe_open

from utils.base_models import BaseModel
from utils.console import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYERS = re.compile(r"(?<!per_)(?<!window_)layers?$")  # how many layers: no sizes per layer, nor a window's first
LARGEST = 65_504.0  # float16's largest finite number; trained weights are far below it

_FROM_THE_HUB = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)


@dataclass(frozen=True)
class TensorHeader:
    """`dtype` in safetensors' own words, such as F32 or BF16."""

    shape: tuple[int, ...]
    dtype: str


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError when the file can't be read or holds something else than a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"can't read {path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def refuse_links(folder: Path) -> None:
    """Raises UserError for a file of the folder that lies elsewhere or is no regular file."""
    home = folder.resolve()
    templates = folder / "additional_chat_templates"
    for path in sorted([*folder.iterdir(), *(templates.iterdir() if templates.is_dir() else [])]):
        if path.is_dir() and path != templates:
            continue
        target = Path(os.path.realpath(path))  # Path.resolve raises where links lead in a circle
        if not target.is_relative_to(home):
            raise UserError(f"{path} is a link to {target}, outside the folder; put the file itself there")
        if not (path.is_file() or path == templates):
            raise UserError(f"{path} is a broken link or no regular file; remove it")


def fetch(base: BaseModel) -> BaseModel:
    """The same model with its folder as the path: a hub id's files are downloaded, not loaded, so that they can be
    checked first. Pickled weights and code are left at the hub.

    Raises UserError when the hub does not hand the model out.
    """
    if Path(base.path).is_dir():
        return base
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(base.path, allow_patterns=list(_FROM_THE_HUB), local_files_only=base.offline)
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise UserError(f"can't fetch {base.name} from the hub: {' '.join(str(error).split())[:200]}") from error
    return replace(base, path=folder)


def check_model(base: BaseModel) -> dict[str, TensorHeader]:
    """Whether the folder of a fetched model holds plain safetensors weights and nothing that makes transformers load
    something else instead. Returns the header of each tensor.

    Raises UserError for an adapter, pickled or redirected weights, a broken file, or more layers than weights.
    """
    folder = Path(base.path)
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{base.name} is an adapter, not a whole model; test it with --adapter FOLDER")
    config = read_json(folder / "config.json")
    if config.get("transformers_weights") or any(folder.glob("shard-*.safetensors")):
        raise UserError(f"{base.name} has its weights in other files than model.safetensors; save it anew")
    quantised = config.get("quantization_config")
    if quantised and (not isinstance(quantised, dict) or quantised.get("quant_method") != "bitsandbytes"):
        raise UserError(f"{base.name} is saved quantised, not by bitsandbytes; name the unquantised model")
    found: dict[str, TensorHeader] = {}
    for path in weight_files(base):
        for name, header in headers(path).items():
            if name in found:
                raise UserError(f"{path} holds {name}, which another file of {base.name} holds too")
            found[name] = header
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    for key, value in (item for section in sections for item in section.items()):
        if _LAYERS.search(key) and isinstance(value, int) and value > len(found):
            raise UserError(f"{folder / 'config.json'} has {key} {value}, but the weights hold {len(found)} tensors")
    return found


def weight_files(base: BaseModel) -> list[Path]:
    """The safetensors files that transformers loads, of a fetched model."""
    folder = Path(base.path)
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
        why = "only pickled weights, which are never loaded" if pickled else "no model.safetensors"
        raise UserError(f"{base.name} holds {why}; save it with safetensors")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index} has no weight_map from tensors to files")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise UserError(f"{index} names {name!r}, which is no safetensors file of the folder")
    return [folder / name for name in names]


def headers(path: Path) -> dict[str, TensorHeader]:
    """Name, shape and dtype of each tensor; no weights are read. Raises UserError for a broken or foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: TensorHeader(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None


def checked_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file one by one. Raises UserError for one that training can't have left: NaN, infinite, or
    beyond float16's range."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            if not tensor.isfinite().all():
                raise UserError(
                    f"{path}: {name} holds NaN or infinite values; the training diverged or the file is broken"
                )
            if tensor.numel() and tensor.abs().max() > LARGEST:
                raise UserError(f"{path}: {name} holds values beyond {LARGEST:,.0f}; the training diverged")
            yield name, tensor


def skeleton(base: BaseModel) -> PreTrainedModel:
    """The model of a fetched base without its weights: all parameters on the meta device, shapes as its config says.

    Raises UserError when transformers itself has no such causal language model; a model's own code is never run.
    """
    from transformers import AutoConfig

    from utils import shared_weights

    try:
        return shared_weights.skeleton(AutoConfig.from_pretrained(base.path, trust_remote_code=False))
    except Exception as error:  # a config from elsewhere fails in many ways, none of them this project's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{base.name} has a config.json that transformers can't build a model from ({reason})"
        ) from error
