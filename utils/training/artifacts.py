"""The finished folder: adapter or whole model, tokenizer, manifest, model card; and what ties a run to its inputs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils import base_models, console, output_folders, records, settings
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.saved_models import manifests, model_cards
from utils.training import checkpoints
from utils.training.disk import disk_faults
from utils.training.settings import TrainingSettings
from utils.training.sharding import gathered_weights

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
    """Everything that decides the weights, by name, as short text: a resumed run must agree in all of it.

    Raises UserError when the run would write over the base that it starts from, or into the folder that one is in.
    """
    output_folders.refuse_working_folder(run.output_dir)
    output_folders.refuse_other_encodings(run.output_dir)
    if Path(base.path).is_dir() and os.path.realpath(run.output_dir) == os.path.realpath(base.path):
        raise UserError(f"{run.output_dir} is the base model's own folder; name another with --output-dir")
    decisive = {name: str(value) for name, value in settings.to_dict(run).items() if name not in FREE_TO_CHANGE}
    return decisive | {
        "training data": data_sha256,
        "base weights": base_models.weights_sha256(base),
        "tokenizer": base_models.tokenizer_sha256(tokenizer),
        "compute dtype": str(compute.dtype).removeprefix("torch."),
    }


def save(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    run: TrainingSettings,
    base: BaseModel,
    identity: Mapping[str, str],
    results: Mapping[str, Any],
) -> Path:
    """Puts the adapter into `run.output_dir`, so that `AutoModelForCausalLM` + `PeftModel` load it; a full fine-tune so
    that `AutoModelForCausalLM` alone does.

    The files are staged and moved in one by one, the manifest with their sha256 last: a folder whose manifest agrees
    with its files is whole. Nothing else that loading would read stays: what an earlier run left is deleted, what came
    from elsewhere is moved into the folder `former`.
    """
    folder = run.output_dir
    gathered = gathered_weights(model)
    if console.is_main_process():
        with disk_faults(folder, "the adapter"):
            _write(model, gathered, tokenizer, run, base, identity, results)
        checkpoints.mark_finished(checkpoints.folder_of(run), results["optimizer_steps"])
    return folder


def _write(
    model: PeftModel | PreTrainedModel,
    gathered: dict[str, torch.Tensor] | None,
    tokenizer: PreTrainedTokenizerBase,
    run: TrainingSettings,
    base: BaseModel,
    identity: Mapping[str, str],
    results: Mapping[str, Any],
) -> None:
    folder = run.output_dir
    staging = folder / ".adapter"
    shutil.rmtree(staging, ignore_errors=True)
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = base.path
    else:
        model.config.use_cache = True  # off in training, wanted by whoever loads it
    model.save_pretrained(staging, state_dict=gathered)
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
    output_folders.let_umask_decide(staging, "README.md")
    _clear_others(folder, keep=hashes)
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in sorted(staging.iterdir()):
        path.replace(folder / path.name)
    staging.rmdir()
    records.write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2).encode())


def _clear_others(folder: Path, keep: Container[str]) -> None:
    """Takes away what loading would read and this run did not write. A file that the folder's manifest lists is an
    earlier run's."""
    others = {path for pattern in manifests.READ_WHEN_LOADING for path in folder.glob(pattern) if path.name not in keep}
    listed = _listed(folder)
    for path in sorted(others):
        if path.name in listed:
            path.unlink()
            continue
        former = folder / "former"
        former.mkdir(exist_ok=True)
        path.replace(former / path.name)
        console.warn(f"{path} was not this run's and would be loaded with its files; it is in {former} now")


def _listed(folder: Path) -> Container[str]:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def model_card(manifest: Mapping[str, Any]) -> str:
    """A README for the adapter folder. It holds no message text and no names out of the data."""
    results = manifest["results"]
    whole = manifest["settings"]["method"] == "full"
    return f"""---
base_model: {manifest["base_path"]}
library_name: {"transformers" if whole else "peft"}
pipeline_tag: text-generation
tags: [{"chat, discord" if whole else "lora, chat, discord"}]
---

{_whole_model(manifest) if whole else _adapter(manifest)}

## Results

Perplexity is token-weighted, over the replies of held-out conversations alone.

{model_cards.results_table(results)}

{model_cards.data_and_use(manifest["fingerprints"]["training data"])}
Versions: {", ".join(f"{name} {version}" for name, version in manifest["versions"].items())}.
"""


def _adapter(manifest: Mapping[str, Any]) -> str:
    run = manifest["settings"]
    return f"""# A chat adapter trained on one person's Discord replies

A LoRA adapter (rank {run["lora_rank"]}, alpha {run["lora_alpha"]}) over `{manifest["base_model"]}`
({run["quantization"]} in training). It answers in the manner of one person in one set of conversations.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{manifest["base_path"]}"), "THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```"""


def _whole_model(manifest: Mapping[str, Any]) -> str:
    return f"""# A chat model tuned on one person's Discord replies

`{manifest["base_model"]}` with every weight trained further. It answers in the manner of one person in one set of
conversations.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```"""


def report(run: TrainingSettings, results: Mapping[str, Any]) -> None:
    """The last lines of a run: what was reached, where it lies, what comes next."""
    console.heading("trained")
    if "validation_perplexity_after" in results:
        before, after = results["validation_perplexity_before"], results["validation_perplexity_after"]
        console.say(f"validation perplexity  {before:.2f} before, {after:.2f} after")
        if after > before:
            console.warn("the training made it worse: lower --learning-rate, or train for fewer epochs")
    else:
        console.warn("no validation records, so nothing says whether the training helped")
    console.say(f"peak memory            {results['peak_memory_mib']:,} MiB")
    what = "model and tokenizer" if run.method == "full" else "adapter and tokenizer"
    console.say(f"{what:<23}{run.output_dir}")
    console.say(
        f"next                   {console.python()} test_model_loading.py --adapter {console.typed(run.output_dir)}"
    )
