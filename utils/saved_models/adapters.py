"""Verify, then load. Nothing of an adapter folder is executed or unpickled, and nothing is loaded that its manifest,
its own config or the base contradict: peft itself loads foreign, broken and altered adapters in silence.

What can't be known: whether a manifest was rewritten to agree with a change that still fits the base, such as another
alpha. Only an evaluation on held-out conversations shows what such an adapter does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import base_models, console
from utils.base_models import BaseModel, Compute, Quantization
from utils.console import UserError
from utils.saved_models import adapter_weights, lora_settings, manifests, model_files, tokenizer_checks
from utils.saved_models.lora_settings import LoraSettings
from utils.saved_models.manifests import Manifest

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """A verified adapter folder.

    `manifest` is what the train script wrote, None for an adapter from elsewhere. `modules` are the layers that it
    changes. `base` is the base that it was found to fit, on this disk, None before `verify_base`. `unchecked` says, in
    a sentence each, what could not be checked.
    """

    folder: Path
    config: dict[str, Any]
    lora: LoraSettings
    manifest: Manifest | None
    modules: tuple[str, ...]
    base: BaseModel | None = None
    unchecked: tuple[str, ...] = ()

    @property
    def base_model(self) -> str:
        """Raises UserError for an adapter from elsewhere that does not say what it was trained on."""
        name = self.manifest.base_path if self.manifest else self.config.get("base_model_name_or_path")
        if not name or not isinstance(name, str):
            raise UserError(f"{self.folder / CONFIG} names no base model; name it with --base-model")
        return name

    @property
    def quantization(self) -> Quantization:
        return self.manifest.settings.quantization if self.manifest else "none"


def verify(folder: Path) -> Adapter:
    """Checks everything that can be checked without the base model.

    Raises UserError naming the first fault: no adapter, a link out of the folder, a file changed since training,
    pickled weights, anything but LoRA for a causal language model, tensors that are no whole LoRA of the config's rank,
    other dtypes than training leaves, values that are not finite, or an adapter that never learned anything.
    """
    if not folder.is_dir():
        raise UserError(f"no adapter at {folder}; train_tinyllama.py makes one")
    model_files.refuse_links(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            pickled = (
                " (adapter_model.bin is pickled and never loaded)" if (folder / "adapter_model.bin").exists() else ""
            )
            raise UserError(f"{folder} holds no adapter: {name} is missing{pickled}; train_tinyllama.py makes one")
    config = model_files.read_json(folder / CONFIG)
    lora = lora_settings.read(config, folder / CONFIG)
    manifest = manifests.read(folder, CONFIG, WEIGHTS)
    if manifest is None:
        console.warn(f"{folder} has no {manifests.NAME}: base, data and files can't be compared with the training")
    else:
        manifests.check_files(folder, manifest)
        _check_config(folder, config, lora, manifest)
    dtypes = ("F32",) if manifest else ("F32", "F16", "BF16")  # a train script keeps LoRA in float32 everywhere
    modules = adapter_weights.check_file(folder / WEIGHTS, lora, dtypes)
    return Adapter(folder, config, lora, manifest, modules, unchecked=_unchecked(lora, manifest))


def verify_base(adapter: Adapter, base: BaseModel) -> Adapter:
    """Checks the adapter against its base, whose weights are hashed and not loaded; a base of the hub is downloaded.

    Raises UserError when the base is not the one of the training, when names or shapes of the weights don't fit it, or
    when the tokenizer is not the base's.
    """
    folder, manifest = adapter.folder, adapter.manifest
    local = model_files.fetch(base)
    model_files.check_model(local)
    if manifest and base_models.weights_sha256(local) != manifest.fingerprints.base_weights:
        raise UserError(
            f"{folder} was trained on {manifest.base_model}, whose weights are not those of {base.name}; name the"
            " right one with --base-model"
        )
    unchecked = adapter_weights.check_fit(
        folder / WEIGHTS, adapter.lora, adapter.modules, local, every_layer=manifest is not None
    )
    unchecked += _check_tokenizer(adapter, local)
    return replace(adapter, base=local, unchecked=adapter.unchecked + unchecked)


def load(adapter: Adapter, base: BaseModel, compute: Compute) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The base with the adapter on it, in eval mode, and the tokenizer that the adapter was trained with.

    Raises UserError as `verify_base` does, before any weights are loaded.
    """
    from peft import PeftModel

    if adapter.base is None or adapter.base.name != base.name:
        adapter = verify_base(adapter, base)
    bare = base_models.load_model(adapter.base, compute)
    model = PeftModel.from_pretrained(bare, adapter.folder, config=adapter.lora.for_peft(adapter.modules))
    return model.eval(), tokenizer_checks.load(_tokenizer_source(adapter, adapter.base))


def _check_config(folder: Path, config: dict[str, Any], lora: LoraSettings, manifest: Manifest) -> None:
    trained = manifest.settings
    pairs = {
        "r": (lora.r, trained.lora_rank),
        "lora_alpha": (lora.lora_alpha, trained.lora_alpha),
        "use_rslora": (lora.use_rslora, trained.method == "rslora"),
        "use_dora": (lora.use_dora, trained.method == "dora"),
        "rank_pattern": (lora.rank_pattern, {}),
        "alpha_pattern": (lora.alpha_pattern, {}),
        "layers_to_transform": (lora.layers_to_transform, None),
        "exclude_modules": (lora.exclude_modules, None),
        "base_model_name_or_path": (config.get("base_model_name_or_path"), manifest.base_path),
    }
    for name, (found, trained_with) in pairs.items():
        if found != trained_with:
            raise UserError(
                f"{folder / CONFIG} has {name} {found!r}, but the training had {trained_with!r} ({manifests.NAME})"
            )
    if lora.chosen_by_pattern:
        raise UserError(f"{folder / CONFIG} chooses layers by a pattern, which no train script writes")


def _check_tokenizer(adapter: Adapter, base: BaseModel) -> tuple[str, ...]:
    """What could not be checked. A train script leaves the base's tokenizer as it is; other trainers may teach a model
    another template, but can't give it another vocabulary without new embeddings."""
    source = _tokenizer_source(adapter, base)
    own = tokenizer_checks.read(source)
    differences = [] if source == base else tokenizer_checks.differences(own, tokenizer_checks.read(base))
    if differences and (adapter.manifest or differences[0] == "vocabulary"):
        raise UserError(f"{adapter.folder}: the {differences[0]} of its tokenizer is not that of {base.name}")
    if adapter.manifest and base_models.tokenizer_sha256(own) != adapter.manifest.fingerprints.tokenizer:
        raise UserError(f"{adapter.folder}: its tokenizer or chat template is not that of the training")
    tokenizer_checks.load(source)  # does its template work?
    if source == base:
        return (f"it brings no tokenizer with a chat template: that of {base.name} is used",)
    return tuple(f"the {what} of its tokenizer is its own, not that of {base.name}" for what in differences)


def _tokenizer_source(adapter: Adapter, base: BaseModel) -> BaseModel:
    return BaseModel(str(adapter.folder), str(adapter.folder)) if tokenizer_checks.comes_with(adapter.folder) else base


def _unchecked(lora: LoraSettings, manifest: Manifest | None) -> tuple[str, ...]:
    if manifest:
        return ()
    pattern = ("its config chooses layers by a pattern, which was not compared with the weights",)
    return (
        f"no {manifests.NAME}: whether base, files and training data are those of the training",
        f"alpha {lora.lora_alpha:g} is only what its own config says",
        *(pattern if lora.chosen_by_pattern else ()),
    )
