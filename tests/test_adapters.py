"""An intact adapter loads; one that was altered, broken or made for something else is refused with its cause."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from utils import adapters, base_models, prompts
from utils.base_models import BaseModel, Compute
from utils.console import UserError

CPU = Compute(torch.device("cpu"), torch.float32, "none")
WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "training.json"


def at(folder: Path) -> BaseModel:
    return BaseModel(str(folder), str(folder))


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def reseal(folder: Path) -> None:
    """Makes the manifest agree with the files again, as a forger would: what is refused then is refused for itself."""
    manifest = json.loads((folder / MANIFEST).read_text())
    hashes = {name: base_models.sha256(folder / name) for name in manifest["sha256"]}
    edit_json(folder / MANIFEST, sha256=hashes)


def refusal(folder: Path, base: BaseModel | None = None) -> str:
    """Why verifying, or loading onto `base`, is refused: one line."""
    with pytest.raises(UserError) as error:
        adapter = adapters.verify(folder)
        if base is not None:
            adapters.load(adapter, base, CPU)
    return " ".join(str(error.value).split())


def test_an_intact_adapter_loads_as_in_production(trained_adapter, tiny_base, tokenizer, held_out):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = adapters.verify(trained_adapter)
    assert (adapter.base_model, adapter.quantization) == (str(tiny_base), "none")
    model, loaded_tokenizer = adapters.load(adapter, at(tiny_base), CPU)
    assert not model.training
    assert base_models.tokenizer_sha256(loaded_tokenizer) == base_models.tokenizer_sha256(tokenizer)

    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    ids = torch.tensor([prompts.encode(held_out, tokenizer).input_ids])
    with torch.no_grad():
        untuned = base(ids).logits
        production = PeftModel.from_pretrained(base, trained_adapter).eval()(ids).logits
        assert torch.equal(model(ids).logits, production)
    assert not torch.allclose(production, untuned, atol=0.1)


def test_an_adapter_trained_in_4_bit_is_tested_in_4_bit(adapter_folder):
    manifest = json.loads((adapter_folder / MANIFEST).read_text())
    edit_json(adapter_folder / MANIFEST, settings=manifest["settings"] | {"quantization": "nf4"})
    assert adapters.verify(adapter_folder).quantization == "nf4"


def test_a_folder_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "none") == f"no adapter at {tmp_path / 'none'}; train_tinyllama.py makes one"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_folder_without_an_adapter(adapter_folder, name):
    (adapter_folder / name).unlink()
    assert refusal(adapter_folder) == (
        f"{adapter_folder} holds no adapter: {name} is missing; train_tinyllama.py makes one"
    )


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_pickled_weights_are_never_loaded(adapter_folder, tiny_base, tmp_path):
    trace = tmp_path / "executed"
    (adapter_folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(trace)))
    adapters.load(adapters.verify(adapter_folder), at(tiny_base), CPU)
    (adapter_folder / WEIGHTS).unlink()
    assert refusal(adapter_folder) == (
        f"{adapter_folder} holds no adapter: {WEIGHTS} is missing (adapter_model.bin is pickled and never loaded);"
        " train_tinyllama.py makes one"
    )
    assert not trace.exists()


def test_code_that_comes_with_an_adapter_is_never_executed(adapter_folder, tiny_base, tmp_path):
    trace = tmp_path / "executed"
    (adapter_folder / "odd.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Odd: pass\n")
    edit_json(
        adapter_folder / "tokenizer_config.json",
        tokenizer_class="Odd",
        auto_map={"AutoTokenizer": ["odd.Odd", "odd.Odd"]},
    )
    reseal(adapter_folder)
    assert "can't load" in refusal(adapter_folder, at(tiny_base))
    assert not trace.exists()


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "tokenizer.json"])
def test_one_changed_byte(adapter_folder, name):
    path = adapter_folder / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    if name == CONFIG:  # still JSON, with another alpha
        path.write_bytes(content[:-2] + b"}\n")
    assert "has changed since training (training.json has another sha256); restore the folder" in refusal(
        adapter_folder
    )


def test_an_altered_scale(adapter_folder):
    edit_json(adapter_folder / CONFIG, lora_alpha=800)
    assert refusal(adapter_folder) == (
        f"{adapter_folder / CONFIG} has changed since training (training.json has another sha256); restore the folder"
    )


def test_a_file_that_the_manifest_lists_is_missing(adapter_folder):
    (adapter_folder / "tokenizer.json").unlink()
    assert refusal(adapter_folder) == (
        f"{adapter_folder / 'tokenizer.json'} is missing, though training.json lists it; train again or restore the"
        " folder"
    )


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_weights_cut_short(adapter_folder, share):
    whole = (adapter_folder / WEIGHTS).read_bytes()
    (adapter_folder / WEIGHTS).write_bytes(whole[: int(len(whole) * share)])
    reseal(adapter_folder)
    assert f"{adapter_folder / WEIGHTS} is not a whole safetensors file" in refusal(adapter_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(adapter_folder, value):
    def spoil(weights):
        next(tensor for name, tensor in weights.items() if "lora_A" in name)[0, 0] = value

    edit_weights(adapter_folder, spoil)
    reseal(adapter_folder)
    assert "holds NaN or infinite values; the training diverged or the file is broken" in refusal(adapter_folder)


def test_weights_that_were_never_trained(adapter_folder):
    def silence(weights):
        for name, tensor in weights.items():
            if "lora_B" in name:
                tensor.zero_()

    edit_weights(adapter_folder, silence)
    reseal(adapter_folder)
    assert refusal(adapter_folder) == (
        f"{adapter_folder / WEIGHTS} was never trained: every lora_B is zero, so it changes nothing"
    )


@pytest.mark.parametrize("change", [{"task_type": "SEQ_CLS"}, {"task_type": None}, {"peft_type": "IA3"}])
def test_another_kind_of_adapter(adapter_folder, change):
    edit_json(adapter_folder / CONFIG, **change)
    reseal(adapter_folder)
    assert refusal(adapter_folder) == f"{adapter_folder / CONFIG} is not LoRA for a causal language model"


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
@pytest.mark.parametrize(("content", "fault"), [("{", "can't read"), ("[1]", "is not a JSON object")])
def test_files_that_are_no_json_objects(adapter_folder, name, content, fault):
    (adapter_folder / name).write_text(content)
    message = refusal(adapter_folder)
    assert str(adapter_folder / name) in message
    assert fault in message


@pytest.mark.parametrize(
    "change",
    [
        {"base_path": None},
        {"fingerprints": {}},
        {"settings": {"quantization": "int3"}},
        {"sha256": ["a"]},
        {"sha256": {}},
    ],
    ids=str,
)
def test_a_manifest_that_no_train_script_writes(adapter_folder, change):
    edit_json(adapter_folder / MANIFEST, **change)
    assert str(adapter_folder / MANIFEST) in refusal(adapter_folder)


@pytest.fixture
def other_base(tiny_base, tmp_path, model) -> BaseModel:
    """A base of the same shape with other weights."""
    folder = shutil.copytree(tiny_base, tmp_path / "other")
    with torch.no_grad():
        model.model.norm.weight += 0.5
    model.save_pretrained(folder)
    return at(folder)


def test_another_base_of_the_same_shape(adapter_folder, other_base, tiny_base):
    assert refusal(adapter_folder, other_base) == (
        f"{adapter_folder} was trained on {tiny_base}, whose weights are not those of {other_base.name}; name the right"
        " one with --base-model"
    )


def test_a_base_that_the_hub_delivers_only_when_it_is_loaded(adapter_folder, tiny_base, tmp_path, monkeypatch):
    """A fresh machine: nothing of the base is on its disk before it is loaded, so nothing can be compared before."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    load_model = base_models.load_model

    def download_and_load(base, compute):
        entry = tmp_path / "hub" / "models--some--base"
        (entry / "refs").mkdir(parents=True)
        (entry / "refs" / "main").write_text("abc123")
        shutil.copytree(tiny_base, entry / "snapshots" / "abc123")
        return load_model(at(tiny_base), compute)

    monkeypatch.setattr(base_models, "load_model", download_and_load)
    adapters.load(adapters.verify(adapter_folder), BaseModel("some/base", "some/base"), CPU)


def rename(weights):
    name = next(iter(weights))
    weights[name.replace("layers.0", "layers.7")] = weights.pop(name)


def add_a_head(weights):
    weights["base_model.model.lm_head.weight"] = torch.zeros(385, 64)


def lose_one(weights):
    weights.pop(next(iter(weights)))


@pytest.mark.parametrize("change", [rename, add_a_head, lose_one])
def test_weights_with_other_names(adapter_folder, tiny_base, change):
    edit_weights(adapter_folder, change)
    reseal(adapter_folder)
    message = refusal(adapter_folder, at(tiny_base))
    assert message.startswith(f"{adapter_folder} does not fit {tiny_base}: ")
    assert message.endswith(" differs in name or shape")


def test_an_adapter_from_elsewhere_loads_with_a_warning(adapter_folder, tiny_base, capsys):
    (adapter_folder / MANIFEST).unlink()
    adapter = adapters.verify(adapter_folder)
    assert "has no training.json: base, data and files can't be compared" in " ".join(capsys.readouterr().err.split())
    assert (adapter.base_model, adapter.quantization) == (str(tiny_base), "none")
    adapters.load(adapter, at(tiny_base), CPU)


def test_an_adapter_from_elsewhere_brings_no_tokenizer(adapter_folder, tiny_base, tokenizer):
    (adapter_folder / MANIFEST).unlink()
    for path in adapter_folder.glob("*token*"):
        path.unlink()
    _, loaded = adapters.load(adapters.verify(adapter_folder), at(tiny_base), CPU)
    assert base_models.tokenizer_sha256(loaded) == base_models.tokenizer_sha256(tokenizer)


def test_an_adapter_from_elsewhere_for_a_base_of_another_shape(adapter_folder, tiny_base, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    (adapter_folder / MANIFEST).unlink()
    wider = AutoConfig.from_pretrained(tiny_base, hidden_size=96, intermediate_size=32)
    folder = shutil.copytree(tiny_base, tmp_path / "wider")
    AutoModelForCausalLM.from_config(wider).save_pretrained(folder)
    assert refusal(adapter_folder, at(folder)).startswith(f"{adapter_folder} does not fit {folder}: ")


def test_an_adapter_from_elsewhere_whose_config_has_another_rank(adapter_folder, tiny_base):
    (adapter_folder / MANIFEST).unlink()
    edit_json(adapter_folder / CONFIG, r=8)
    assert refusal(adapter_folder, at(tiny_base)).startswith(f"{adapter_folder} does not fit {tiny_base}: ")


def test_an_adapter_from_elsewhere_that_names_no_base(adapter_folder):
    (adapter_folder / MANIFEST).unlink()
    edit_json(adapter_folder / CONFIG, base_model_name_or_path=None)
    adapter = adapters.verify(adapter_folder)
    with pytest.raises(UserError, match="names no base model; name it with --base-model"):
        _ = adapter.base_model
