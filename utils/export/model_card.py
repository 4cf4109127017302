"""The README and the manifest of an export. Neither holds message text or names out of the data."""

from __future__ import annotations

import importlib.metadata
import json
import math
from dataclasses import asdict
from pathlib import Path

from utils import base_models, console, records
from utils.export import merged, staging
from utils.export.held_out import FORMS, TOLERANCE_NATS, Measured
from utils.export.settings import ExportSettings
from utils.export.source import Source
from utils.saved_models import model_cards

PACKAGES = ("torch", "transformers", "peft", "gguf")


def commands(form: str, folder: str, system_prompt: str) -> str:
    """What to type to use an export, a line each."""
    limit = merged.MAX_REPLY_TOKENS
    return {
        "merged": f"vllm serve {_quoted(folder)}",
        "gguf": f"llama-cli -m {_quoted(f'{folder}/model.gguf')} -n {limit} -sys {_quoted(system_prompt)}",
        "ollama": f"ollama create NAME -f {_quoted(f'{folder}/Modelfile')}\nollama run NAME",
    }[form]


def _quoted(text: str) -> str:
    """One word of a shell. What a terminal would not show as it is, a line break or a mark of direction, stands in
    escapes, which bash and zsh know."""
    odd = {character for character in text if character in "\n\t" or console.harmless(character) != character}
    if not odd:
        return console.typed(text)
    escaped = "".join(
        "".join(f"\\{byte:03o}" for byte in character.encode()) if character in odd | {"'", "\\"} else character
        for character in text
    )
    return f"$'{escaped}'"


_USE = {
    "merged": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```

`vllm serve THIS_FOLDER` serves it as well. The persona's system prompt goes before each chat.""",
    "gguf": f"```\n{commands('gguf', 'THIS_FOLDER', 'THE SYSTEM PROMPT OF YOUR RECORDS')}\n```",
    "ollama": f"```\n{commands('ollama', 'THIS_FOLDER', '')}\n```",
}
_MADE_BY = {True: "with a LoRA adapter merged into it", False: "with every weight trained further"}
_RELATION = {"merged": "merge", "gguf": "quantized", "ollama": "quantized"}


def write(folder: Path, source: Source, measured: Measured, settings: ExportSettings) -> None:
    """Puts README.md and export.json into a finished folder."""
    (folder / "README.md").write_text(card(source, measured, settings), encoding="utf-8")
    manifest = {
        "form": settings.to,
        "base_model": source.base_name,
        "base_weights": source.base_weights,
        "trained_weights": source.weights,
        "training_data": source.manifest["fingerprints"]["training data"],
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


def card(source: Source, measured: Measured, settings: ExportSettings) -> str:
    trained = source.manifest
    results = {
        f"held-out perplexity, adapter over the {source.quantization} base of its training": (
            math.exp(measured.as_trained) if measured.as_trained is not None else None
        ),
        f"held-out perplexity, {source.description}": math.exp(measured.full_precision),
        **{f"held-out perplexity, exported as {FORMS[form]}": math.exp(nll) for form, nll in measured.exported.items()},
        "held-out replies": measured.replies,
        "held-out tokens": measured.tokens,
        **trained["results"],
    }
    shown = {name: value for name, value in results.items() if value is not None}
    return f"""---
base_model: {source.base_name}
base_model_relation: {_RELATION[settings.to]}
pipeline_tag: text-generation
tags: [chat, discord]
---

# A chat model tuned on one person's Discord replies

`{source.base_name}` {_MADE_BY[source.adapter is not None]}. It answers in the manner of one person in one set of
conversations.

{_USE[settings.to]}

## Results

Perplexity is token-weighted, over the replies of held-out conversations alone.

{model_cards.results_table(shown)}

{model_cards.data_and_use(trained["fingerprints"]["training data"])}"""
