"""A model tested as it is: a base, a merged or a fully fine-tuned one. Verified before its weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoModelForCausalLM

from utils import base_models
from utils.base_models import BaseModel
from utils.console import UserError
from utils.saved_models import manifests, model_files, tokenizer_checks
from utils.saved_models.manifests import Manifest
from utils.saved_models.model_files import TensorHeader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = ("F32", "F16", "BF16")


def verify(model: BaseModel) -> tuple[BaseModel, PreTrainedTokenizerBase, Manifest | None]:
    """The model on this disk, its tokenizer, and the manifest where a train script left one.

    Raises UserError naming the first fault: a link out of the folder, a file changed since training, pickled or
    quantised weights, names or shapes that its config contradicts, values that are not finite, or a tokenizer with
    more tokens than the model has embeddings.
    """
    local = model_files.fetch(model)
    folder = Path(local.path)
    if local == model:  # the hub's cache is made of links
        model_files.refuse_links(folder)
    tensors = model_files.check_model(local)
    files = model_files.weight_files(local)
    manifest = manifests.read(folder, "config.json", *(path.name for path in files))
    if manifest:
        manifests.check_files(folder, manifest)
    if model_files.read_json(folder / "config.json").get("quantization_config"):
        raise UserError(f"{model.name} is saved quantised; test the unquantised model, with --quantization if need be")
    _check_dtypes(local, tensors)
    _check_fit(local)
    for path in files:
        for _ in model_files.checked_tensors(path):
            pass
    tokenizer_checks.comes_with(folder)  # refuses code of its own
    tokenizer = tokenizer_checks.load(local)
    if manifest and base_models.tokenizer_sha256(tokenizer) != manifest.fingerprints.tokenizer:
        raise UserError(f"{model.name}: its tokenizer or chat template is not that of the training")
    embeddings = model_files.skeleton(local).get_input_embeddings().num_embeddings
    largest = max(tokenizer.get_vocab().values())
    if largest >= embeddings:
        raise UserError(
            f"{model.name}: its tokenizer has an id {largest} and the model {embeddings} embeddings; they don't belong"
            " together"
        )
    return local, tokenizer, manifest


def _check_dtypes(model: BaseModel, tensors: dict[str, TensorHeader]) -> None:
    for name, header in tensors.items():
        if header.dtype not in DTYPES:
            raise UserError(f"{model.name}: {name} has dtype {header.dtype} instead of {' or '.join(DTYPES)}")


def _check_fit(model: BaseModel) -> None:
    """Lets transformers itself say which tensors it would miss, leave out or find misshapen; on the meta device no
    weights are read."""
    try:
        _, found = AutoModelForCausalLM.from_pretrained(
            model.path,
            device_map={"": "meta"},
            attn_implementation="eager",  # which every model has; nothing is computed
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:  # a folder from elsewhere fails in many ways, none of them this project's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{model.name} holds no model that transformers can load ({reason})") from error
    for kind, names in {
        "lacks": found["missing_keys"],
        "has no place for": found["unexpected_keys"],
        "has another shape for": [str(entry[0]) for entry in found["mismatched_keys"]],
    }.items():
        if names:
            raise UserError(f"{model.name} {kind} {min(names)}: its weights and config.json don't belong together")
