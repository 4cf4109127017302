"""Verify, then load. Nothing of an adapter folder is executed or unpickled, and nothing is loaded that its manifest,
its own config or the base contradict: peft itself loads foreign, broken and altered adapters in silence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from utils import base_models, console
from utils.base_models import BaseModel, Compute, Quantization
from utils.console import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "training.json"


class Fingerprints(msgspec.Struct, frozen=True):
    base_weights: str = msgspec.field(name="base weights")


class TrainedWith(msgspec.Struct, frozen=True):
    quantization: Quantization


class Manifest(msgspec.Struct, frozen=True):
    """What is read of a train script's manifest; `sha256` is by name of file."""

    base_model: str
    base_path: str
    fingerprints: Fingerprints
    settings: TrainedWith
    sha256: dict[str, str]


@dataclass(frozen=True)
class Adapter:
    """A verified adapter folder. `manifest` is what the train script wrote, None for an adapter from elsewhere."""

    folder: Path
    config: dict[str, Any]
    manifest: Manifest | None

    @property
    def base_model(self) -> str:
        """Raises UserError for an adapter from elsewhere that does not say what it was trained on."""
        name = self.manifest.base_path if self.manifest else self.config.get("base_model_name_or_path")
        if not name:
            raise UserError(f"{self.folder / CONFIG} names no base model; name it with --base-model")
        return name

    @property
    def quantization(self) -> Quantization:
        return self.manifest.settings.quantization if self.manifest else "none"


def verify(folder: Path) -> Adapter:
    """Checks everything that can be checked without the base model.

    Raises UserError naming the first fault: no adapter, a file changed since training, pickled weights, another task,
    weights that are not finite, or an adapter that never learned anything.
    """
    if not folder.is_dir():
        raise UserError(f"no adapter at {folder}; train_tinyllama.py makes one")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = (
                " (adapter_model.bin is pickled and never loaded)" if (folder / "adapter_model.bin").exists() else ""
            )
            raise UserError(f"{folder} holds no adapter: {name} is missing{pickled}; train_tinyllama.py makes one")
    config = _read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        raise UserError(f"{folder / CONFIG} is not LoRA for a causal language model")
    manifest = _read_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
    if manifest is None:
        console.warn(f"{folder} has no {MANIFEST}: base, data and files can't be compared with the training")
    else:
        _check_files(folder, manifest)
    _check_weights(folder / WEIGHTS)
    return Adapter(folder, config, manifest)


def load(adapter: Adapter, base: BaseModel, compute: Compute) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The base with the adapter on it, in eval mode, and the tokenizer that the adapter was trained with.

    Raises UserError when the base is not the one of the training, or when shapes or names of the weights don't fit it.
    """
    from peft import PeftModel
    from safetensors import safe_open

    folder, manifest = adapter.folder, adapter.manifest
    bare = base_models.load_model(base, compute)  # first: a hub id has files to compare only when it is loaded
    if manifest and base_models.weights_sha256(base) != manifest.fingerprints.base_weights:
        raise UserError(
            f"{folder} was trained on {manifest.base_model}, whose weights are not those of {base.name}; name the"
            " right one with --base-model"
        )
    has_tokenizer = (folder / "tokenizer_config.json").exists()
    tokenizer = base_models.load_tokenizer(BaseModel(str(folder), str(folder)) if has_tokenizer else base)
    try:
        model = PeftModel.from_pretrained(bare, folder)
    except (RuntimeError, ValueError) as error:  # what torch raises for shapes, and peft for names
        raise UserError(f"{folder} does not fit {base.name}: {' '.join(str(error).split())[:200]}") from error
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {
        name.replace(".default.", "."): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }
    if saved != wanted:
        odd = sorted(saved.items() ^ wanted.items())[0][0]
        raise UserError(f"{folder} does not fit {base.name}: {odd} differs in name or shape")
    return model.eval(), tokenizer


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.convert(_read_json(path), Manifest)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is not what a train script writes: {error}") from None
    unlisted = {CONFIG, WEIGHTS} - manifest.sha256.keys()
    if unlisted:
        raise UserError(f"{path} is not what a train script writes: it lists no sha256 of {min(unlisted)}")
    return manifest


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name, digest in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing, though {MANIFEST} lists it; train again or restore the folder")
        if base_models.sha256(path) != digest:
            raise UserError(f"{path} has changed since training ({MANIFEST} has another sha256); restore the folder")


def _check_weights(path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; the training diverged or the file is broken")
    if not any(tensor.any() for name, tensor in weights.items() if "lora_B" in name):
        raise UserError(f"{path} was never trained: every lora_B is zero, so it changes nothing")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content
