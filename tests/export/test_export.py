"""An export answers as the adapter does, says what it is, appears whole or not at all, and refuses in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RwkvConfig, RwkvForCausalLM

from utils import base_models, console, output_folders, prompts
from utils.base_models import BaseModel, Compute
from utils.export import gguf_file, merged, model_card
from utils.export import held_out as measuring
from utils.export.__main__ import main
from utils.export.settings import ExportSettings
from utils.likelihood import collate, token_nll
from utils.saved_models import adapters
from utils.training import artifacts
from utils.training.settings import TrainingSettings

CPU = Compute(torch.device("cpu"), torch.float32, "none")


@pytest.fixture
def export(adapter_folder, data_dir, tmp_path):
    """Runs the command as a person does; gives the exit code and the output folder."""

    def run_with(form: str, *flags: str) -> tuple[int, Path]:
        destination = tmp_path / "exported"
        argv = ["--adapter", str(adapter_folder), "--to", form, "--output-dir", str(destination)]
        argv += ["--test-file", str(data_dir / "test.jsonl"), "--device", "cpu", *flags]
        try:
            console.run(lambda: main(argv))
        except SystemExit as exit_:
            return exit_.code, destination
        return 0, destination

    return run_with


@pytest.fixture
def refused(export, tmp_path, capsys):
    """What a refused export says: one line, after which nothing is left."""

    def message(form: str, *flags: str) -> str:
        before = sorted(tmp_path.iterdir())
        code, _ = export(form, *flags)
        assert code == 2
        assert sorted(tmp_path.iterdir()) == before
        lines = capsys.readouterr().err.strip().splitlines()
        return next(line for line in lines if line.startswith("error: ")).removeprefix("error: ")

    return message


@pytest.fixture
def whole_model(tiny_base, tokenizer, held_out, tmp_path) -> Path:
    """A full fine-tune that knows `held_out` by heart, as a train script leaves it."""
    base = BaseModel(str(tiny_base), str(tiny_base))
    run = TrainingSettings(base_model=base.name, output_dir=tmp_path / "whole", method="full", quantization="none")
    model = base_models.load_model(base, CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    row = collate([prompts.encode(held_out, tokenizer)])
    for _ in range(30):
        optimizer.zero_grad()
        token_nll(model, row).mean().backward()
        optimizer.step()
    identity = artifacts.fingerprints(run, base, tokenizer, "0" * 64, CPU)
    return artifacts.save(model, tokenizer, run, base, identity, {"optimizer_steps": 30})


def tuned(adapter_folder: Path, tiny_base: Path):
    base = BaseModel(str(tiny_base), str(tiny_base))
    return adapters.load(adapters.verify(adapter_folder), base, CPU)


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
@pytest.mark.parametrize("limit_bytes", [3_000, 60_000])
def test_a_disk_that_gets_full_leaves_the_earlier_export(export, capsys, limit_bytes):
    """A limit on the size of a file stands for the full disk: both fail a write in its middle."""
    import resource

    _, folder = export("merged")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, former[1]))
    try:
        code, _ = export("gguf", "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert code == 2 and "can't write" in capsys.readouterr().err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(".exported*"))


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
@pytest.mark.parametrize("limit_bytes", [4_000, 40_000])
def test_a_disk_that_gets_full_in_a_gguf_file(refused, monkeypatch, limit_bytes):
    """In what stands before the tensors, and among these, which numpy writes."""
    import resource

    write = gguf_file.write

    def limited(*arguments):
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, former[1]))
        try:
            write(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)

    monkeypatch.setattr(gguf_file, "write", limited)
    assert refused("gguf").startswith(("can't write ", "the disk says "))


def test_two_exports_do_not_write_one_folder(refused, tmp_path):
    with output_folders.claimed(tmp_path / "exported"):
        assert "another run is writing" in refused("merged")


def test_a_merged_model_is_base_plus_adapter_rounded_once(export, adapter_folder, tiny_base):
    assert export("merged")[0] == 0
    _, folder = export("merged", "--overwrite")
    weights = load_file(folder / "model.safetensors")
    base = load_file(tiny_base / "model.safetensors")
    lora = load_file(adapter_folder / adapters.WEIGHTS)
    name = "model.layers.1.mlp.down_proj"
    update = lora[f"base_model.model.{name}.lora_B.weight"] @ lora[f"base_model.model.{name}.lora_A.weight"] * 8 / 4
    assert update.abs().max() > 0.01
    assert torch.equal(weights[f"{name}.weight"], (base[f"{name}.weight"] + update).half())
    assert {each.dtype for each in weights.values()} == {torch.float16}
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "export.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_merged_model_answers_as_the_adapter_and_stops(export, adapter_folder, tiny_base, held_out):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = export("merged")
    model, tokenizer = tuned(adapter_folder, tiny_base)
    alone, own_tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = prompts.encode_prompt(prompts.prompt_messages(held_out), own_tokenizer)
    assert prompt == prompts.encode_prompt(prompts.prompt_messages(held_out), tokenizer)
    ids = torch.tensor([prompt])
    replies = [
        each.generate(input_ids=ids, max_new_tokens=20, do_sample=False)[0, len(prompt) :] for each in (model, alone)
    ]
    assert torch.equal(*replies)
    assert own_tokenizer.decode(replies[1], skip_special_tokens=True) == held_out.output
    assert alone.generation_config.eos_token_id == sorted(prompts.end_of_turn_ids(tokenizer))
    assert alone.config.use_cache


def test_an_export_without_sdpa_is_read_back_too(tmp_path):
    config = RwkvConfig(vocab_size=60, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2)
    RwkvForCausalLM(config).save_pretrained(tmp_path)
    assert not merged.load(tmp_path, Compute(torch.device("cpu"), torch.float32, "none")).training


def test_an_export_takes_a_system_prompt_also_where_its_base_refuses_one(export, adapter_folder, tiny_base, tmp_path):
    from transformers import AutoTokenizer

    other = shutil.copytree(tiny_base, tmp_path / "other")
    refusing = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "<|im_start|>{{ m['role'] + ' ' + m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
    )
    for folder in (other, adapter_folder):
        (folder / "chat_template.jinja").write_text(refusing)
    (adapter_folder / "training.json").unlink()
    code, folder = export("merged", "--base-model", str(other))
    assert code == 0
    chat = [{"role": "system", "content": "You are Rohan."}, {"role": "user", "content": "hi"}]
    assert AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>user You are Rohan.\n\nhi<|im_end|>\n"
    )


def test_a_full_fine_tune_becomes_gguf_and_ollama(export, whole_model, tiny_base, tokenizer, held_out):
    for form, files in (("gguf", ["model.gguf"]), ("ollama", ["Modelfile", "model.gguf"])):
        code, folder = export(form, "--adapter", str(whole_model), "--overwrite", "--gguf-type", "f16")
        assert code == 0
        assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "README.md", "export.json"])
    loaded = gguf_file.load(folder / "model.gguf", CPU)
    prompt = torch.tensor([prompts.encode_prompt(prompts.prompt_messages(held_out), tokenizer)])
    reply = loaded.generate(input_ids=prompt, max_new_tokens=20, do_sample=False)[0, prompt.shape[1] :]
    assert tokenizer.decode(reply, skip_special_tokens=True) == held_out.output
    manifest = json.loads((folder / "export.json").read_text())
    assert manifest["base_weights"] == base_models.weights_sha256(BaseModel("", str(tiny_base)))
    assert manifest["trained_weights"] == base_models.weights_sha256(BaseModel("", str(whole_model)))
    assert manifest["held_out_nll"]["full_precision"] < 1
    assert "every weight trained" in (folder / "README.md").read_text()


def test_a_full_fine_tune_is_never_rounded_to_float16_on_the_way(export, whole_model, monkeypatch):
    """Its steps are as small as that rounding."""
    converted = {}
    write = gguf_file.write

    def look_and_write(folder: Path, *rest) -> None:
        converted.update(load_file(folder / "model.safetensors"))
        write(folder, *rest)

    monkeypatch.setattr(gguf_file, "write", look_and_write)
    assert export("gguf", "--adapter", str(whole_model))[0] == 0
    trained = load_file(whole_model / "model.safetensors")
    assert trained.keys() == converted.keys()
    assert all(torch.equal(trained[name], tensor) for name, tensor in converted.items())


def test_a_whole_model_that_can_not_be_exported(refused, whole_model, tiny_base):
    chosen = ("--adapter", str(whole_model))
    assert refused("merged", *chosen) == (
        f"{whole_model} is a whole model already: use it as it is, or export it with --to gguf"
    )
    assert refused("gguf", *chosen, "--base-model", str(tiny_base)) == (
        f"{whole_model} is a whole model, which needs no --base-model"
    )
    (whole_model / "config.json").write_text((whole_model / "config.json").read_text() + " ")
    assert "config.json has changed since training" in refused("gguf", *chosen)
    (whole_model / "training.json").unlink()
    assert refused("gguf", *chosen) == (
        f"{whole_model} is a whole model that no train script left: it has no training.json"
    )


def test_what_was_measured_stands_in_the_manifest(export, adapter_folder, tiny_base, held_out):
    _, folder = export("gguf", "--gguf-type", "f16")
    model, tokenizer = tuned(adapter_folder, tiny_base)
    nll = measuring.mean_nll(model, [prompts.encode(held_out, tokenizer)], "")
    manifest = json.loads((folder / "export.json").read_text())
    found = manifest["held_out_nll"]
    assert found["full_precision"] == pytest.approx(nll)
    assert (found["replies"], found["tokens"], found["as_trained"]) == (1, 6, None)
    assert found["exported"].keys() == {"float16", "f16"}
    assert found["exported"]["f16"] == pytest.approx(nll, abs=measuring.TOLERANCE_NATS["f16"])
    assert manifest["trained_weights"] == base_models.sha256(adapter_folder / adapters.WEIGHTS)
    assert manifest["sha256"] == {"model.gguf": base_models.sha256(folder / "model.gguf")}


@pytest.mark.parametrize("form", ["merged", "gguf", "ollama"])
def test_the_card_says_what_it_is_and_holds_no_message(export, form, tiny_base, held_out):
    _, folder = export(form)
    card = (folder / "README.md").read_text()
    assert "| optimizer steps |" in card
    training_data = "0" * 64
    for said in (str(tiny_base), training_data, "Intended use", "people in the data should have agreed", "perplexity"):
        assert said in card
    assert ("exported as GGUF q8_0 |" in card) is (form != "merged")
    assert {"merged": "transformers", "gguf": "llama-cli", "ollama": "ollama create"}[form] in card
    for path in folder.glob("*.[mj][ds]*"):
        assert held_out.instruction not in path.read_text()
        assert held_out.output not in path.read_text()


@pytest.mark.parametrize(
    ("form", "typed"),
    [
        ("merged", "vllm serve {}"),
        ("gguf", "llama-cli -m {}/model.gguf -n 256 -sys 'You are Ann'\"'\"'s \"echo\".'"),
        ("ollama", "ollama create NAME -f {}/Modelfile\n    ollama run NAME"),
    ],
)
def test_what_to_type_next_is_shown_ready_to_be_copied(export, capsys, form, typed):
    _, folder = export(form, "--system-prompt", 'You are Ann\'s "echo".')
    assert capsys.readouterr().out.endswith(f"    {typed.format(folder)}\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("prompt", ["You are \u200fAvi\u200f.", "You're Ann.\n1 of us.\tOr \\012?", "-rf $(id) `x`"])
def test_a_shell_reads_the_shown_system_prompt_as_it_is(prompt):
    """Also where a terminal would show it otherwise, or an indented second line would change it."""
    command = model_card.commands("gguf", "models/a", prompt)
    assert console.harmless(command) == command and "\n" not in command
    said = subprocess.run(["bash", "-c", f"printf '%s|' {command}"], capture_output=True, check=True)
    assert said.stdout.decode() == f"llama-cli|-m|models/a/model.gguf|-n|256|-sys|{prompt}|"


def test_help_names_the_command(export, capsys):
    assert export("merged", "--help")[0] == 0
    assert capsys.readouterr().out.startswith("usage: python -m utils.export [-h]")


def test_an_adapter_trained_in_4_bit_is_measured_there_too(export, adapter_folder, capsys):
    manifest = json.loads((adapter_folder / "training.json").read_text())
    manifest["settings"]["quantization"] = "nf4"
    (adapter_folder / "training.json").write_text(json.dumps(manifest))
    _, folder = export("merged")
    found = json.loads((folder / "export.json").read_text())["held_out_nll"]
    assert found["as_trained"] != pytest.approx(found["full_precision"], abs=1e-6)
    assert "adapter over the nf4 base" in capsys.readouterr().out


def test_a_model_that_does_worse_than_its_adapter_is_refused(refused, monkeypatch):
    load = merged.load

    def damaged(folder, compute):
        model = load(folder, compute)
        model.model.norm.weight.data += 0.1
        return model

    monkeypatch.setattr(merged, "load", damaged)
    assert refused("merged").startswith("the export as float16 safetensors is not the model that it was made from: ")


def test_a_model_that_answers_nothing_finite_is_refused(refused, monkeypatch):
    load = merged.load

    def damaged(folder, compute):
        model = load(folder, compute)
        model.model.norm.weight.data.fill_(float("nan"))
        return model

    monkeypatch.setattr(merged, "load", damaged)
    assert "nan nats a token" in refused("merged")


def test_weights_that_float16_can_not_hold(refused, adapter_folder, tiny_base, tmp_path):
    huge = shutil.copytree(tiny_base, tmp_path / "huge")
    weights = load_file(huge / "model.safetensors")
    weights["model.embed_tokens.weight"][0, 0] = 1e6
    save_file(weights, huge / "model.safetensors", metadata={"format": "pt"})
    (adapter_folder / "training.json").unlink()
    assert refused("merged", "--base-model", str(huge)) == (
        "model.embed_tokens.weight has values that float16 can't hold; this model can't be exported"
    )


def test_ctrl_c_in_the_middle_leaves_nothing(export, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(merged, "load", interrupted)
    assert export("merged")[0] == 130
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_can_not_be_written(refused, tmp_path):
    (tmp_path / "taken").write_text("a file")
    assert "/taken/export: Not a directory; name another with --output-dir" in refused(
        "merged", "--output-dir", str(tmp_path / "taken/export")
    )


def test_a_full_disk_is_noticed_before_anything_is_written(refused, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    assert "GB are free; make room, or name a folder on another disk with --output-dir" in refused("gguf")


def test_an_earlier_export_is_replaced_only_on_demand(export, refused):
    _, folder = export("merged")
    assert refused("gguf") == f"{folder} is there already; --overwrite replaces it, --output-dir names another place"
    assert (folder / "model.safetensors").exists()
    assert export("gguf", "--overwrite")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "export.json", "model.gguf"]


def test_a_path_that_is_no_utf_8_is_refused(refused):
    message = refused("merged", "--output-dir", os.fsdecode(b"\xff"))
    assert message == "the path � is not in UTF-8; name another with --output-dir"


def test_something_else_is_never_replaced(refused, tmp_path, adapter_folder):
    message = refused("merged", "--overwrite", "--output-dir", str(adapter_folder))
    assert message == f"{adapter_folder} is no earlier export, so it is not replaced; name another with --output-dir"


def test_a_base_of_another_architecture_is_refused_before_the_work(refused, monkeypatch):
    from utils.export import gguf_vocabulary

    def unsupported(*_):
        raise console.UserError("this tokenizer can't be written")

    monkeypatch.setattr(gguf_vocabulary, "read", unsupported)
    monkeypatch.setattr(merged, "write", lambda *_: pytest.fail("merged already"))
    assert refused("gguf") == "this tokenizer can't be written"


def test_every_form_has_its_place_in_the_card():
    """What is missing there is missed when the work is done."""
    forms = set(get_args(get_args(get_type_hints(ExportSettings, include_extras=True)["to"])[0]))
    assert forms == model_card._USE.keys() == model_card._RELATION.keys()
    assert all(model_card.commands(form, "folder", "You are Rohan.") for form in forms)


def test_no_records_to_measure_on(refused, tmp_path):
    missing = tmp_path / "none.jsonl"
    assert (
        refused("merged", "--test-file", str(missing))
        == f"no records at {missing}; prepare_training_data.py makes them"
    )
