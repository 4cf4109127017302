"""The README and the manifest of an export. Neither holds message text or names out of the data."""

from __future__ import annotations

import importlib.metadata
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from utils import base_models, manifests, model_cards, records
from utils.adapters import WEIGHTS, Adapter
from utils.base_models import BaseModel
from utils.export import staging
from utils.export.held_out import TOLERANCE_NATS, Measured
from utils.export.settings import ExportSettings

PACKAGES = ("torch", "transformers", "peft", "gguf")

_USE = {
    "merged": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```

`vllm serve THIS_FOLDER` serves it as well.""",
    "gguf": "```\nllama-cli -m THIS_FOLDER/model.gguf --jinja -cnv -sys 'THE SYSTEM PROMPT OF YOUR RECORDS'\n```",
    "ollama": "```\nollama create NAME -f THIS_FOLDER/Modelfile\nollama run NAME\n```",
}
_RELATION = {"merged": "merge", "gguf": "quantized", "ollama": "quantized"}


def write(folder: Path, adapter: Adapter, measured: Measured, settings: ExportSettings) -> None:
    """Puts README.md and export.json into a finished folder; `adapter` was verified with its base."""
    base = adapter.base
    trained = _training_manifest(adapter)
    (folder / "README.md").write_text(card(trained, base, measured, settings), encoding="utf-8")
    manifest = {
        "form": settings.to,
        "base_model": base.name,
        "base_weights": base_models.weights_sha256(base),
        "adapter_weights": base_models.sha256(adapter.folder / WEIGHTS),
        "training_data": trained.get("fingerprints", {}).get("training data"),
        "held_out_nll": asdict(measured),
        "tolerance_nats": {form: TOLERANCE_NATS[form] for form in measured.exported},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "sha256": {
            str(path.relative_to(folder)): base_models.sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "README.md"
        },
    }
    records.write_atomically(folder / staging.MANIFEST, json.dumps(manifest, indent=2).encode())


def card(trained: dict[str, Any], base: BaseModel, measured: Measured, settings: ExportSettings) -> str:
    results = {
        f"held-out perplexity, adapter over the {trained['settings']['quantization']} base of its training": (
            math.exp(measured.as_trained) if measured.as_trained is not None else None
        ),
        "held-out perplexity, adapter over the unquantised base": math.exp(measured.full_precision),
        **{f"held-out perplexity, this model ({form})": math.exp(nll) for form, nll in measured.exported.items()},
        "held-out replies": measured.replies,
        "held-out tokens": measured.tokens,
        **trained["results"],
    }
    shown = {name: value for name, value in results.items() if value is not None}
    return f"""---
base_model: {base.name}
base_model_relation: {_RELATION[settings.to]}
pipeline_tag: text-generation
tags: [chat, discord]
---

# A chat model tuned on one person's Discord replies

`{base.name}` with a LoRA adapter merged into it. It answers in the manner of one person in one set of conversations.

{_USE[settings.to]}

## Results

Perplexity is token-weighted, over the replies of held-out conversations alone.

{model_cards.results_table(shown)}

{model_cards.data_and_use(trained["fingerprints"]["training data"])}"""


def _training_manifest(adapter: Adapter) -> dict[str, Any]:
    """What the train script wrote, with the gaps of an adapter from elsewhere filled."""
    unknown = {"fingerprints": {"training data": "unknown"}, "results": {}, "settings": {"quantization": "none"}}
    if adapter.manifest is None:
        return unknown
    return json.loads((adapter.folder / manifests.NAME).read_text(encoding="utf-8"))
