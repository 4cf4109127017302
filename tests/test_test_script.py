"""The test script: what it writes, how it exits, and what it says about mistakes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import test_model_loading
from utils import base_models, console, records
from utils.evaluation.generation import Reply
from utils.evaluation.report import Answered, check
from utils.evaluation.scoring import ReplyScore
from utils.records import Record


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


def test_an_adapter_that_learned_passes(run, adapter_folder, held_out, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    report = evaluation(adapter_folder)
    assert report["passed"] is True
    assert [check["passed"] for check in report["checks"]] == [True] * 4
    assert report["tuned"]["perplexity"] < report["base"]["perplexity"]
    assert report["held_out_replies"] == 1
    assert report["held_out_tokens"] == 6
    assert report["generation"]["replies"] == 1
    assert f"tuned    {held_out.output}" in shown
    assert f"true     {held_out.output}" in shown
    assert "FAIL" not in shown
    assert str(adapter_folder / "evaluation.json") in shown.replace("\n", "")


def test_the_report_holds_no_message_text(run, adapter_folder, held_out):
    run()
    text = (adapter_folder / "evaluation.json").read_text()
    assert held_out.output not in text
    assert held_out.instruction not in text


def test_an_adapter_that_made_it_worse_fails(run, adapter_folder, capsys):
    unlearn(adapter_folder)
    assert run() == 1
    report = evaluation(adapter_folder)
    assert report["passed"] is False
    assert report["checks"][0] == {
        "name": "perplexity on held-out replies fell",
        "passed": False,
        "detail": f"{report['base']['perplexity']:.2f} base, {report['tuned']['perplexity']:.2f} tuned",
    }
    assert "FAIL  perplexity on held-out replies fell" in capsys.readouterr().out


def test_a_model_that_never_comes_to_an_end_fails(run, adapter_folder):
    assert run("--max-new-tokens", "2") == 1
    failed = [check["name"] for check in evaluation(adapter_folder)["checks"] if not check["passed"]]
    assert failed == ["replies come to an end"]


FINE = Reply("hello there", tokens=4, ended=True, seconds=0.1)


@pytest.mark.parametrize(
    ("replies", "tuned_nll", "failed"),
    [
        ([FINE, FINE], 2.0, []),
        ([FINE, FINE], 3.0, ["perplexity on held-out replies fell"]),
        ([FINE, FINE], float("nan"), ["perplexity on held-out replies fell"]),
        ([FINE, replace(FINE, text="")], 2.0, ["no reply is empty"]),
        ([FINE, replace(FINE, ended=False)], 2.0, []),
        ([replace(FINE, ended=False)], 2.0, ["replies come to an end"]),
        ([FINE, replace(FINE, text="hello<|im_start|>user")], 2.0, ["no control tokens in a reply"]),
        ([FINE, replace(FINE, text="hello</s>")], 2.0, ["no control tokens in a reply"]),
    ],
)
def test_each_check_fails_for_its_own_fault(replies, tuned_nll, failed, held_out):
    answered = [Answered(held_out, FINE, reply) for reply in replies]
    checks = check([ReplyScore(3.0, 1)], [ReplyScore(tuned_nll, 1)], answered)
    assert [each.name for each in checks if not each.passed] == failed


def test_the_base_can_be_quantised_for_the_test(run, adapter_folder):
    assert run("--quantization", "nf4") == 0
    assert evaluation(adapter_folder)["passed"]


def test_two_runs_report_the_same(run, adapter_folder, data_dir, conversation):
    records.write(data_dir / "test.jsonl", conversation)

    def figures() -> dict:
        run("--temperature", "0.7", "--records", "2")
        report = evaluation(adapter_folder)
        del report["generation"]  # a speed
        return report

    first = figures()
    assert first["held_out_replies"] == 2
    assert figures() == first


@pytest.fixture
def refused(run, adapter_folder, capsys):
    """Runs the script, which must refuse with one line and leave no report; gives the line."""

    def refused_with(*flags: str, **paths: Path) -> str:
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
