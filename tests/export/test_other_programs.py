"""The README's commands for llama.cpp, Ollama and vLLM, where they are on the PATH: an export answers there."""

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
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

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


def exported(adapter: Path, data: Path, form: str, folder: Path, *flags: str) -> Path:
    target = ("--adapter", str(adapter), "--to", form, "--output-dir", str(folder), *flags)
    export([*target, "--test-file", str(data / "test.jsonl"), "--device", "cpu"])
    return folder


def test_llama_cli_answers_and_ends(adapter, data, tmp_path):
    file = str(exported(adapter, data, "gguf", tmp_path / "gguf") / "model.gguf")
    command = [program("llama-cli"), "-m", file, "-n", "256", "-sys", "You are Rohan, chatting on Discord."]
    said = "did the bread turn out?"
    done = subprocess.run(command, input=f"{said}\n/exit\n", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    reply = re.search(rf"> {re.escape(said)}\s+(\S.*?)\s+\[ Prompt:", done.stdout, re.DOTALL)
    assert reply and not re.search(r"<\|\w+\|>", reply[1]), done.stdout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], health: str) -> Iterator[None]:
    """A server, from when it answers under the address `health` until the block ends."""
    server = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(START_S):
            assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(health)
                break
            time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[str]:
    """`vllm serve` with these arguments; gives its address once it answers."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [program("vllm"), "serve", *arguments, *ON_A_CPU, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, own, f"{address}/health"):
        yield f"{address}/v1/chat/completions"


def asked(address: str, model: str, messages: Sequence[prompts.ChatMessage]) -> tuple[int, str]:
    """The tokens of the prompt as the server counts them, and its greedy reply."""
    body = {"model": model, "messages": list(messages), "temperature": 0, "max_tokens": 16}
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=300))
    return answer["usage"]["prompt_tokens"], answer["choices"][0]["message"]["content"]


def greedy(model, tokenizer, messages: Sequence[prompts.ChatMessage]) -> tuple[int, str]:
    """The tokens of the prompt, and the greedy reply, of transformers."""
    ids = torch.tensor([prompts.encode_prompt(messages, tokenizer)])
    reply = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    return ids.shape[1], tokenizer.decode(reply[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_vllm_makes_the_prompts_and_replies_of_transformers(adapter, data, tmp_path, form):
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
            messages = prompts.prompt_messages(record)
            assert asked(address, name, messages) == greedy(model, tokenizer, messages)


@pytest.mark.parametrize(("bits", "name"), [("q8_0", "Rohan"), ("f16", "Ana\u00a0Maria \U0001f468\u200d\U0001f469")])
def test_ollama_answers_and_makes_the_prompts_and_replies_of_transformers(adapter, data, tmp_path, bits, name):
    ollama = program("ollama")
    system = f"You are {name}, chatting on Discord."
    folder = exported(adapter, data, "ollama", tmp_path / "form", "--gguf-type", bits, "--system-prompt", system)
    host = f"127.0.0.1:{free_port()}"
    own = {"OLLAMA_HOST": host, "OLLAMA_MODELS": str(tmp_path / "models"), "HOME": str(tmp_path)}
    base = AutoModelForCausalLM.from_pretrained(starter.FOLDER, dtype=torch.float32)
    model, tokenizer = PeftModel.from_pretrained(base, adapter), AutoTokenizer.from_pretrained(adapter)
    talks = [prompts.prompt_messages(record)[1:] for record in records.read(data / "test.jsonl")]
    with running([ollama, "serve"], own, f"http://{host}/api/version"):
        for command in (["create", "NAME", "-f", str(folder / "Modelfile")], ["run", "NAME"]):
            done = subprocess.run(
                [ollama, *command],
                input="did the bread turn out?",
                env=os.environ | own,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
        assert done.stdout.strip() and not re.search(r"<\|\w+\|>", done.stdout), done.stdout
        for talk in (min(talks, key=len), max(talks, key=len)):  # the system prompt is left to the Modelfile
            tokens, reply = greedy(model, tokenizer, [{"role": "system", "content": system}, *talk])
            found_tokens, found_reply = asked(f"http://{host}/v1/chat/completions", "NAME", talk)
            assert found_tokens == tokens
            assert found_reply == reply or bits == "q8_0"  # there activations are rounded as well
