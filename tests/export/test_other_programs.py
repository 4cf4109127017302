"""The README's commands for llama.cpp and vLLM, each where its program is on the PATH: an export answers there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

import prepare_training_data
import train_tinyllama
from utils import prompts, records, starter
from utils.export.__main__ import main as export

START_S = 600
ON_A_CPU = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "1024")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (starter.FOLDER / "model.safetensors").exists(), reason="the starter is not there"),
]


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare_training_data.main(
        [
            *("--source", str(ROOT / "data/sample"), "--persona", "rohan"),
            *("--output-dir", str(folder), "--store", str(folder / "history.duckdb")),
        ]
    )
    return folder


@pytest.fixture(scope="module")
def adapter(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "adapter"
    train_tinyllama.main(
        [
            *("--base-model", "starter", "--data-dir", str(data), "--output-dir", str(folder), "--device", "cpu"),
            *(
                "--quantization",
                "none",
                "--max-steps",
                "6",
                "--learning-rate",
                "1e-3",
                "--evaluations",
                "1",
                "--wandb",
                "off",
            ),
        ]
    )
    return folder


def exported(adapter: Path, data: Path, form: str, folder: Path) -> Path:
    target = ("--adapter", str(adapter), "--to", form, "--output-dir", str(folder))
    export([*target, "--test-file", str(data / "test.jsonl"), "--device", "cpu"])
    return folder


def test_llama_cli_answers_and_ends(adapter, data, tmp_path):
    command = [program("llama-cli"), "-m", "FOLDER/model.gguf", "-sys", "You are Rohan, chatting on Discord."]
    command[2] = str(exported(adapter, data, "gguf", tmp_path / "gguf") / "model.gguf")
    said = "did the bread turn out?"
    done = subprocess.run(command, input=f"{said}\n/exit\n", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    reply = re.search(rf"> {re.escape(said)}\s+(\S.*?)\s+\[ Prompt:", done.stdout, re.DOTALL)
    assert reply and not re.search(r"<\|\w+\|>", reply[1]), done.stdout


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[str]:
    """`vllm serve` with these arguments; gives its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [program("vllm"), "serve", *arguments, *ON_A_CPU, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(START_S):
            assert server.poll() is None, f"vllm ended with {server.returncode}"
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        server.terminate()
        server.wait(60)


def asked(address: str, model: str, record: records.Record) -> tuple[int, str]:
    """The tokens of the prompt as the server counts them, and its greedy reply."""
    body = {"model": model, "messages": list(prompts.prompt_messages(record)), "temperature": 0, "max_tokens": 16}
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=300))
    return answer["usage"]["prompt_tokens"], answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_vllm_makes_the_prompts_and_replies_of_transformers(adapter, data, tmp_path, form):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    program("vllm")
    if form == "merged":
        name = str(exported(adapter, data, "merged", tmp_path / "merged"))
        arguments = (name,)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    else:
        name, base = "NAME", str(starter.FOLDER)
        arguments = (base, "--enable-lora", "--lora-modules", f"{name}={adapter}")
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    with served(*arguments) as address:
        for record in records.read(data / "test.jsonl")[:2]:
            ids = torch.tensor([prompts.encode_prompt(prompts.prompt_messages(record), tokenizer)])
            own = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
            )[0, ids.shape[1] :]
            wanted = tokenizer.decode(own, skip_special_tokens=True)
            assert asked(address, name, record) == (ids.shape[1], wanted)
