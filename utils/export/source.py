"""What is exported: an adapter on its base, or a model whose every weight was trained. Verified, then loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils import base_models
from utils.base_models import BaseModel, Compute, Quantization
from utils.console import UserError
from utils.saved_models import adapters, manifests, tokenizer_checks, whole_models
from utils.saved_models.adapters import Adapter


@dataclass(frozen=True)
class Source:
    """The verified result of a training.

    `adapter` is None for a full fine-tune, whose folder is the whole model. `base_weights` and `weights` are the sha256
    of what the training started from and of what it made; `manifest` is training.json, its gaps filled.
    """

    folder: Path
    adapter: Adapter | None
    base_name: str
    base_weights: str
    weights: str
    manifest: dict[str, Any]

    @property
    def quantization(self) -> Quantization:
        return self.adapter.quantization if self.adapter else "none"

    @property
    def description(self) -> str:
        return "adapter over the unquantised base" if self.adapter else "the model as trained"

    def load(self, compute: Compute) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
        if self.adapter:
            return adapters.load(self.adapter, self.adapter.base, compute)
        whole = BaseModel(str(self.folder), str(self.folder))
        return base_models.load_model(whole, compute).eval(), tokenizer_checks.load(whole)


def verify(folder: Path, base_model: str | None = None) -> Source:
    """Checks the folder, and an adapter's base as well; `base_model` None takes the one of its training.

    Raises UserError as `adapters.verify` and `whole_models.verify` do, and for a whole model that no train script left.
    """
    if (folder / "config.json").exists() and not (folder / adapters.CONFIG).exists():
        return _whole(folder, base_model)
    adapter = adapters.verify(folder)
    adapter = adapters.verify_base(adapter, base_models.locate(base_model or adapter.base_model))
    unknown = {"fingerprints": {"training data": "unknown"}, "results": {}, "settings": {"quantization": "none"}}
    return Source(
        folder,
        adapter,
        adapter.base.name,
        base_models.weights_sha256(adapter.base),
        base_models.sha256(folder / adapters.WEIGHTS),
        _manifest(folder) if adapter.manifest else unknown,
    )


def _whole(folder: Path, base_model: str | None) -> Source:
    if base_model:
        raise UserError(f"{folder} is a whole model, which needs no --base-model")
    local, _, manifest = whole_models.verify(BaseModel(str(folder), str(folder)))
    if manifest is None:
        raise UserError(f"{folder} is a whole model that no train script left: it has no {manifests.NAME}")
    weights = base_models.weights_sha256(local)
    return Source(folder, None, manifest.base_path, manifest.fingerprints.base_weights, weights, _manifest(folder))


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / manifests.NAME).read_text(encoding="utf-8"))
