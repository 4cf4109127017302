"""The finished adapter folder: adapter, tokenizer, manifest and model card; and what ties a run to its inputs."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from utils import base_models, console, records, settings
from utils.base_models import BaseModel, Compute
from utils.training.settings import TrainingSettings

MANIFEST = "training.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")

# Settings that may differ between a run and its resumption without changing a weight.
# (A measured micro_batch_tokens stands in the checkpoint itself.)
_HOUSEKEEPING = "output_dir data_dir resume restart dry_run keep_checkpoints save_every_steps save_every_minutes"
_OBSERVATION = "wandb wandb_project wandb_tags run_name log_every_steps evaluations evaluation_records"
_CHOICE = "final_weights early_stopping_evaluations"
FREE_TO_CHANGE = frozenset(f"{_HOUSEKEEPING} {_OBSERVATION} {_CHOICE}".split())


def fingerprints(
    run: TrainingSettings, base: BaseModel, tokenizer: PreTrainedTokenizerBase, data_sha256: str, compute: Compute
) -> dict[str, str]:
    """Everything that decides the weights, by name, as short text: a resumed run must agree in all of it."""
    decisive = {name: str(value) for name, value in settings.to_dict(run).items() if name not in FREE_TO_CHANGE}
    return decisive | {
        "training data": data_sha256,
        "base weights": base_models.weights_sha256(base),
        "tokenizer": base_models.tokenizer_sha256(tokenizer),
        "compute dtype": str(compute.dtype).removeprefix("torch."),
    }


def save(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    run: TrainingSettings,
    base: BaseModel,
    identity: Mapping[str, str],
    results: Mapping[str, Any],
) -> Path:
    """Puts the adapter into `run.output_dir`, so that `AutoModelForCausalLM` + `PeftModel` load it.

    The files are staged and moved in one by one, the manifest with their sha256 last: a folder whose manifest agrees
    with its files is whole.
    """
    folder = run.output_dir
    if not console.is_main_process():
        return folder
    staging = folder / ".adapter"
    shutil.rmtree(staging, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = base.path
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    hashes = {path.name: base_models.sha256(path) for path in sorted(staging.iterdir()) if path.name != "README.md"}
    manifest = {
        "base_model": base.name,
        "base_path": base.path,
        "fingerprints": dict(identity),
        "results": dict(results),
        "settings": settings.to_dict(run),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "sha256": hashes,
    }
    (staging / "README.md").write_text(model_card(manifest), encoding="utf-8")
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in sorted(staging.iterdir()):
        path.replace(folder / path.name)
    staging.rmdir()
    records.write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2).encode())
    return folder


def model_card(manifest: Mapping[str, Any]) -> str:
    """A README for the adapter folder. It holds no message text and no names out of the data."""
    run, results = manifest["settings"], manifest["results"]
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in results.items())
    return f"""---
base_model: {manifest["base_path"]}
library_name: peft
pipeline_tag: text-generation
tags: [lora, chat, discord]
---

# A chat adapter trained on one person's Discord replies

A LoRA adapter (rank {run["lora_rank"]}, alpha {run["lora_alpha"]}) over `{manifest["base_model"]}`
({run["quantization"]} in training). It answers in the manner of one person in one set of conversations.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{manifest["base_path"]}"), "THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```

## Results

Perplexity is token-weighted, over the replies of held-out conversations alone.

| | |
|---|---|
{rows}

## Data and use

Training data: sha256 `{manifest["fingerprints"]["training data"]}`; no message text is stored here, but a model can
repeat what it was trained on. The people in the data should have agreed to this use. Not for impersonation, and not
for any use that its persona would not agree to.

Versions: {", ".join(f"{name} {version}" for name, version in manifest["versions"].items())}.
"""


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def report(run: TrainingSettings, results: Mapping[str, Any]) -> None:
    """The last lines of a run: what was reached, where it lies, what comes next."""
    console.heading("trained")
    if "validation_perplexity_after" in results:
        before, after = results["validation_perplexity_before"], results["validation_perplexity_after"]
        console.say(f"validation perplexity  {before:.2f} before, {after:.2f} after")
    else:
        console.warn("no validation records, so nothing says whether the training helped")
    console.say(f"peak memory            {results['peak_memory_mib']:,} MiB")
    console.say(f"adapter and tokenizer  {run.output_dir}")
    console.say(f"next                   python test_model_loading.py --adapter {run.output_dir}")
