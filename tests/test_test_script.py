"""The test script: what it writes, how it exits, and what it says about mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from safetensors.torch import load_file, save_file

import test_model_loading
from utils import base_models, console, records
from utils.records import Record, Source


@pytest.fixture
def run(adapter_folder, data_dir):
    """Runs the script as a person does, on the trained adapter unless told otherwise; gives the exit code."""

    def run_with(*flags: str, adapter: Path = adapter_folder, test_file: Path = data_dir / "test.jsonl") -> int:
        argv = [
            "--adapter",
            str(adapter),
            "--test-file",
            str(test_file),
            "--temperature",
            "0",
            "--device",
            "cpu",
            *flags,
        ]
        try:
            console.run(lambda: test_model_loading.main(argv))
        except SystemExit as exit_:
            return exit_.code
        return 0

    return run_with


def evaluation(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def metric(report: dict, name: str) -> dict:
    return next(each for each in report["metrics"] if each["name"] == name)


def unlearn(folder: Path) -> None:
    """Turns what the adapter learned around, and makes its manifest agree."""
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: -each if "lora_B" in name else each for name, each in weights.items()},
        folder / "adapter_model.safetensors",
    )
    manifest = json.loads((folder / "training.json").read_text())
    manifest["sha256"]["adapter_model.safetensors"] = base_models.sha256(folder / "adapter_model.safetensors")
    (folder / "training.json").write_text(json.dumps(manifest))


@pytest.fixture
def many_conversations(data_dir, held_out) -> Path:
    """A test file with the memorised reply in as many conversations as a verdict needs."""
    path = data_dir / "many.jsonl"
    records.write(path, [replace(held_out, source=Source(conversation=f"1/{number}")) for number in range(32)])
    return path


def test_an_adapter_that_answers(run, adapter_folder, held_out, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    report = evaluation(adapter_folder)
    assert (report["passed"], report["verdict"]) == (True, "too little to tell")
    assert report["held_out"] == {"replies": 1, "conversations": 1, "tokens": 6}
    assert len(report["checks"]) == 5 and all(check["passed"] for check in report["checks"])
    assert metric(report, "perplexity")["tuned"] < metric(report, "perplexity")["base"]
    assert report["generation"]["replies"] == 1 and report["generation"]["tokens_per_s"] > 0
    assert f"tuned    {held_out.output}" in shown
    assert f"true     {held_out.output}" in shown
    assert shown.splitlines()[-1] == f"page    {adapter_folder / 'evaluation.html'}"


def test_the_page_holds_the_replies_and_the_json_no_text(run, adapter_folder, held_out):
    run()
    text = (adapter_folder / "evaluation.json").read_text()
    assert held_out.output not in text
    assert held_out.instruction not in text
    page = (adapter_folder / "evaluation.html").read_text()
    assert page.count(held_out.output) == 2  # the person's and the tuned model's
    assert page.count('class="conversation"') == 1


def test_an_adapter_that_learned_helped(run, adapter_folder, many_conversations):
    assert run("--prompts", "2", "--training-records", "0", test_file=many_conversations) == 0
    report = evaluation(adapter_folder)
    assert report["verdict"] == "helped"
    assert report["held_out"]["conversations"] == 32
    low, high = metric(report, "perplexity")["interval"]
    assert low <= metric(report, "perplexity")["difference"] <= high < 0
    assert report["memorization"] is None
    assert "whether it repeats its training data: left out" in report["unchecked"]


def test_an_adapter_that_made_it_worse_hurt(run, adapter_folder, many_conversations, capsys):
    unlearn(adapter_folder)
    assert run("--prompts", "2", "--training-records", "0", test_file=many_conversations) == 1
    report = evaluation(adapter_folder)
    assert (report["passed"], report["verdict"]) == (False, "hurt")
    assert "The training hurt" in capsys.readouterr().out


def test_a_model_that_never_comes_to_an_end_fails(run, adapter_folder, capsys):
    assert run("--max-new-tokens", "2") == 1
    failed = [check["name"] for check in evaluation(adapter_folder)["checks"] if not check["passed"]]
    assert failed == ["replies come to an end"]
    assert "Failed: replies come to an end" in capsys.readouterr().out


def test_the_leak_test_looks_at_the_training_records_beside(run, adapter_folder, data_dir, held_out):
    leaked = replace(held_out, output="okay but hear me out")
    records.write(data_dir / "train.jsonl", [leaked])
    run()
    report = evaluation(adapter_folder)
    assert report["memorization"]["metrics"]
    assert any("has changed since, or is another" in line for line in report["unchecked"])


def test_without_training_records_it_says_so(run, adapter_folder, data_dir):
    (data_dir / "train.jsonl").unlink()
    assert run() == 0
    report = evaluation(adapter_folder)
    assert report["memorization"] is None
    assert any("--train-file" in line for line in report["unchecked"])


def test_quick_says_what_it_left_out(run, adapter_folder, many_conversations):
    assert run("--quick", test_file=many_conversations) == 0
    report = evaluation(adapter_folder)
    assert report["verdict"] == "helped"
    assert report["held_out"]["replies"] == 30
    assert report["memorization"] is None
    assert any("--quick leaves that out" in line for line in report["unchecked"])
    assert any("2 more held-out replies" in line for line in report["unchecked"])


def test_a_plain_base_has_nothing_to_be_compared_with(run, tiny_base, tmp_path):
    assert run("--output-dir", str(tmp_path / "found"), adapter=tiny_base) in (0, 1)  # random weights say anything
    report = evaluation(tmp_path / "found")
    assert report["verdict"] == "no base to compare with"
    assert report["base"] is None and metric(report, "perplexity")["base"] is None
    assert "reply base" not in (tmp_path / "found" / "evaluation.html").read_text()
    assert not (tiny_base / "evaluation.json").exists()


def test_the_base_can_be_quantised_for_the_test(run, adapter_folder):
    assert run("--quantization", "nf4", "--training-records", "0") == 0
    assert evaluation(adapter_folder)["passed"]


def test_two_runs_report_the_same(run, adapter_folder, data_dir, conversation):
    records.write(data_dir / "test.jsonl", conversation)

    def figures() -> dict:
        run("--temperature", "0.7", "--records", "2")
        report = evaluation(adapter_folder)
        return {name: found for name, found in report.items() if name not in ("generation", "seconds")}  # speeds

    first = figures()
    assert first["held_out"]["replies"] == 2
    assert figures() == first


def test_a_chat_writes_no_report(run, adapter_folder, monkeypatch, capsys):
    lines = iter(["is soup a drink?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert run("--chat") == 0
    assert "okay but hear me out" in capsys.readouterr().out
    assert not (adapter_folder / "evaluation.json").exists()


@pytest.fixture
def refused(run, adapter_folder, capsys):
    """Runs the script, which must refuse with one line and leave no report; gives the line."""

    def refused_with(*flags: str, **paths: Path) -> str:
        capsys.readouterr()  # bars of what the test itself saved
        assert run(*flags, **paths) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
        assert len(error) == 1
        assert error[0].startswith("error: ")
        assert not (adapter_folder / "evaluation.json").exists()
        return error[0].removeprefix("error: ")

    return refused_with


def test_a_missing_test_file(refused, tmp_path):
    missing = tmp_path / "test.jsonl"
    assert refused(test_file=missing) == f"no records at {missing}; prepare_training_data.py makes them"


def test_a_folder_without_an_adapter(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(adapter=tmp_path / "empty") == (
        f"{tmp_path / 'empty'} holds no adapter: adapter_config.json is missing; train_tinyllama.py makes one"
    )


def test_a_missing_adapter(refused, tmp_path):
    missing = tmp_path / "nothing"
    assert refused(adapter=missing) == f"no adapter at {missing}; train_tinyllama.py makes one"


def test_an_adapter_that_changed(refused, adapter_folder):
    with (adapter_folder / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    assert refused() == (
        f"{adapter_folder / 'tokenizer_config.json'} has changed since training (training.json has another sha256);"
        " restore the folder"
    )


def test_another_base(refused, adapter_folder, tiny_base, tmp_path, model):
    other = shutil.copytree(tiny_base, tmp_path / "other")
    model.model.norm.weight.data += 0.5
    model.save_pretrained(other)
    assert refused("--base-model", str(other)) == (
        f"{adapter_folder} was trained on {tiny_base}, whose weights are not those of {other}; name the right one with"
        " --base-model"
    )


def test_a_base_that_is_gone(refused, tmp_path):
    assert refused("--base-model", str(tmp_path / "gone")) == (
        f"no base model in {tmp_path / 'gone'}: it has no config.json; name a model's folder, a hub id or starter"
    )


def test_replies_that_do_not_fit_the_length_limit(refused, data_dir):
    records.write(data_dir / "test.jsonl", [Record(instruction="soup?", output="no " * 100)])
    assert refused("--max-length-tokens", "64") == (
        "no held-out record fits into the length limit; raise --max-length-tokens"
    )


def test_an_unknown_setting(refused):
    assert refused("--adaptor", "x") == "unknown setting --adaptor; did you mean --adapter?"


def test_findings_that_can_not_be_written(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused("--output-dir", str(tmp_path / "file")) == (
        f"can't write to {tmp_path / 'file'}; name another folder with --output-dir"
    )
