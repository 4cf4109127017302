"""The finished folder holds one model, the one that was trained, whatever lay there before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from utils import base_models
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.saved_models import adapters, whole_models
from utils.training import artifacts
from utils.training.settings import TrainingSettings

IDS = torch.arange(20)[None]


@pytest.fixture
def save(tiny_base, tokenizer, tmp_path):
    """Trains nothing: moves the weights by hand and saves them as a run of that method does."""

    def with_method(method: str, output_dir: Path = tmp_path / "out"):
        base = BaseModel(str(tiny_base), str(tiny_base))
        quick = {"quantization": "none", "lora_rank": 4, "lora_alpha": 8}
        run = TrainingSettings(base_model=base.name, output_dir=output_dir, method=method, **quick)
        compute = Compute(torch.device("cpu"), torch.float32, "none")
        identity = artifacts.fingerprints(run, base, tokenizer, "0" * 64, compute)
        model = base_models.load_model(base, compute)
        if method != "full":
            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
        return artifacts.save(model, tokenizer, run, base, identity, {"optimizer_steps": 1}), model.eval()

    return with_method


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_a_whole_model_takes_an_adapters_place(save):
    save("lora")
    folder, trained = save("full")
    assert not list(folder.glob("adapter*"))
    whole_models.verify(BaseModel(str(folder), str(folder)))
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(loaded), logits(trained))
    assert loaded.config.use_cache


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_the_files_follows_the_umask(save, umask, mode):
    before = os.umask(umask)
    try:
        folder, _ = save("lora")
    finally:
        os.umask(before)
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: oct(mode) for path in files}


def test_an_adapter_takes_a_whole_models_place(save, tiny_base):
    save("full")
    folder, trained = save("lora")
    assert not list(folder.glob("config.json")) + list(folder.glob("model*")) + list(folder.glob("generation*"))
    adapters.verify(folder)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), folder)
    assert torch.equal(logits(loaded), logits(trained))


def test_what_came_from_elsewhere_is_moved_aside(save, capsys):
    folder, _ = save("lora")
    (folder / "model.safetensors").write_text("somebody's")
    (folder / "notes.txt").write_text("kept")
    save("lora")
    assert (folder / "former/model.safetensors").read_text() == "somebody's"
    assert "was not this run's" in capsys.readouterr().err
    assert (folder / "notes.txt").exists()
    adapters.verify(folder)


def test_the_base_is_not_written_over(save, tiny_base):
    with pytest.raises(UserError, match="is the base model's own folder; name another with --output-dir"):
        save("lora", tiny_base)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_card_says_how_to_load_it(save, method):
    folder, _ = save(method)
    card = (folder / "README.md").read_text()
    assert ("PeftModel" in card) is (method == "lora")
    assert ("every weight trained" in card) is (method == "full")
    assert json.loads((folder / "training.json").read_text())["settings"]["method"] == method


def test_the_next_command_can_be_pasted(capsys):
    run = TrainingSettings(output_dir=Path("my models/räumchen"))
    artifacts.report(run, {"peak_memory_mib": 1})
    assert capsys.readouterr().out.endswith("--adapter 'my models/räumchen'\n")


@pytest.mark.parametrize(("after", "warned"), [(90.0, False), (220.0, True)])
def test_a_training_that_made_it_worse_is_warned_of(capsys, after, warned):
    results = {"peak_memory_mib": 1, "validation_perplexity_before": 215.66, "validation_perplexity_after": after}
    artifacts.report(TrainingSettings(), results)
    assert ("made it worse" in capsys.readouterr().err) is warned
