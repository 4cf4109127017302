"""The train scripts as a person runs them: files in, adapter out, one-line errors."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_model
import train_tinyllama
from utils.console import UserError
from utils.training.trainer import ChatTrainer

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def arguments(tiny_base, data_dir, tmp_path):
    """Flags of a run of six steps on the tiny base."""
    return [
        *("--base-model", str(tiny_base), "--data-dir", str(data_dir), "--output-dir", str(tmp_path / "adapter")),
        *("--device", "cpu", "--max-steps", "6", "--wandb", "off"),
        *("--batch-size", "1", "--gradient-accumulation-steps", "2", "--save-every-steps", "2"),
    ]


@pytest.mark.parametrize("script", [train_tinyllama, train_model])
def test_a_run_leaves_an_adapter_that_plain_peft_loads(script, arguments, tiny_base, tmp_path, capsys):
    script.main(arguments)
    folder = tmp_path / "adapter"
    present = {path.name for path in folder.iterdir()}
    assert present >= {
        *("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("training.json", "README.md", "metrics.jsonl", "checkpoints"),
    }
    assert "validation perplexity" in capsys.readouterr().out

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(tiny_base)), str(folder))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], return_tensors="pt", add_generation_prompt=True
    )
    tuned = model(**prompt).logits
    with model.disable_adapter():
        assert not torch.allclose(tuned, model(**prompt).logits)


def test_metrics_and_manifest_tell_the_run(arguments, tmp_path):
    train_tinyllama.main(arguments)
    rows = [json.loads(line) for line in (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()]
    evaluations = [row for row in rows if "eval_perplexity" in row]
    assert (evaluations[0]["step"], evaluations[-1]["step"]) == (0, 6)
    for row in evaluations:
        assert row["eval_perplexity"] == pytest.approx(math.exp(row["eval_loss"]))
    manifest = json.loads((tmp_path / "adapter/training.json").read_text())
    assert manifest["settings"]["learning_rate"] == 2e-4
    assert manifest["results"]["optimizer_steps"] == 6
    assert manifest["results"]["validation_perplexity_after"] == evaluations[-1]["eval_perplexity"]


def test_the_model_card_and_metrics_hold_no_message_text(arguments, tmp_path):
    train_tinyllama.main(arguments)
    for name in ("README.md", "metrics.jsonl", "training.json"):
        text = (tmp_path / "adapter" / name).read_text()
        assert "soup" not in text
        assert "Rohan" not in text


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_killed_run_resumes_to_the_same_weights(arguments, tmp_path, quantization):
    command = [sys.executable, "train_tinyllama.py", *arguments, "--quantization", quantization]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_tinyllama.main([*command[2:], "--output-dir", str(whole)])

    process = subprocess.Popen([*command, "--output-dir", str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not (killed / "checkpoints/checkpoint-2").exists() and time.monotonic() < deadline_s:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (killed / "checkpoints/checkpoint-2").exists()
    # Whatever it saved after step 2 goes, so that there is something left to do.
    for later in ("checkpoint-4", "checkpoint-6", "finished.json"):
        path = killed / "checkpoints" / later
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        path.unlink(missing_ok=True)

    train_tinyllama.main([*command[2:], "--output-dir", str(killed), "--resume"])
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert measured(killed) == measured(whole)


def measured(folder: Path) -> list[tuple[int, float]]:
    """Every validation loss that metrics.jsonl holds, with its step: a resumed run measures none a second time."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]


def test_an_unfinished_run_is_neither_overwritten_nor_ignored(arguments, tmp_path):
    train_tinyllama.main(arguments)
    (tmp_path / "adapter/checkpoints/finished.json").unlink()
    with pytest.raises(
        UserError, match=r"unfinished run, saved at step 6: add --resume to go on with it, or --restart"
    ):
        train_tinyllama.main(arguments)
    train_tinyllama.main([*arguments, "--restart"])


def test_resuming_with_another_learning_rate_is_refused(arguments, tmp_path):
    train_tinyllama.main(arguments)
    with pytest.raises(UserError, match=r"another learning_rate \(0.0002 then, 0.001 now\)"):
        train_tinyllama.main([*arguments, "--resume", "--learning-rate", "1e-3"])


def test_resuming_with_other_data_is_refused(arguments, data_dir):
    train_tinyllama.main(arguments)
    with (data_dir / "train.jsonl").open("a") as file:
        file.write('{"instruction": "one", "output": "more"}\n')
    with pytest.raises(UserError, match="another training data"):
        train_tinyllama.main([*arguments, "--resume"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data-dir", "nowhere"], r"no records at nowhere/train.jsonl; prepare_training_data.py makes them"),
        (["--base-model", "./nowhere"], r"no base model in nowhere: it has no config.json"),
        (["--base-model", "some/model"], r"can't be reached for some/model; use --base-model starter"),
        (["--learning-rte", "1"], r"unknown setting --learning-rte; did you mean --learning-rate\?"),
        (
            ["--output-dir", "."],
            r"\. is the folder that you are in, or one above it, .*; name .* with --output-dir",
        ),
        (["--output-dir", os.fsdecode(b"\xff")], "the path � is not in UTF-8; name another with --output-dir"),
        (["--seed", str(2**32)], r"--seed: expected `int` <= 4294967295, not 4294967296"),
    ],
)
def test_mistakes_are_one_line(arguments, flags, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_tinyllama.main([*arguments, *flags])
    assert not (tmp_path / "adapter").exists()


def test_only_records_that_are_too_long_is_one_line(arguments, data_dir):
    (data_dir / "train.jsonl").write_text(json.dumps({"instruction": "why?", "output": "because " * 100}) + "\n")
    with pytest.raises(
        UserError, match=r"none of the 1 training records fits into 64 tokens; raise --max-length-tokens"
    ):
        train_tinyllama.main([*arguments, "--max-length-tokens", "64"])


def test_an_empty_training_file_is_one_line_and_exit_code_2(arguments, data_dir, tmp_path):
    (data_dir / "train.jsonl").write_text("\n")
    done = subprocess.run([sys.executable, "train_tinyllama.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {data_dir}/train.jsonl holds no records; prepare_training_data.py makes them\n"
    assert not (tmp_path / "adapter").exists()


def test_no_validation_records_still_trains(arguments, data_dir, capsys):
    (data_dir / "validation.jsonl").unlink()
    train_tinyllama.main(arguments)
    assert "no validation records" in capsys.readouterr().err


def test_a_dry_run_measures_and_writes_nothing(arguments, tmp_path, capsys):
    train_tinyllama.main([*arguments, "--dry-run"])
    told = capsys.readouterr().out
    assert "6 steps in micro-batches of" in told
    assert "tokens/s, peak memory" in told
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(arguments, tmp_path, number):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_tinyllama.main([*arguments, "--output-dir", str(whole)])
    hundred = [*arguments, "--output-dir", str(stopped), "--save-every-steps", "1000"]
    command = [sys.executable, "-u", "train_tinyllama.py", *hundred]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = ""
    for line in process.stdout:
        told += line
        if "step    0/6" in line:
            process.send_signal(number)
    assert process.wait() == 128 + number, told
    assert re.search(r"stopped after step \d and saved; go on with the same command and --resume", told)
    train_tinyllama.main([*arguments, "--output-dir", str(stopped), "--resume"])
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpoints_come_by_minutes_too(arguments, tmp_path):
    train_tinyllama.main([*arguments, "--save-every-steps", "1000", "--save-every-minutes", "1e-6"])
    kept = {path.name for path in (tmp_path / "adapter/checkpoints").iterdir()}
    assert {"checkpoint-5", "checkpoint-6"} <= kept


def test_the_weights_of_the_best_evaluation_are_saved(arguments, tmp_path, monkeypatch):
    """Something wrecks the model before the fifth step: the best evaluation is not the last one."""
    step = ChatTrainer.training_step

    def wreck(self, *given, **named):
        if self.state.global_step == 4:
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    weight.fill_(10) if "lora_B" in name else None
        return step(self, *given, **named)

    monkeypatch.setattr(ChatTrainer, "training_step", wreck)
    train_tinyllama.main([*arguments, "--evaluations", "6"])
    manifest = json.loads((tmp_path / "adapter/training.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row and row["step"] > 0}
    best = min(losses, key=losses.__getitem__)
    assert best != 6
    assert manifest["results"]["best_step"] == best
    kept = load_file(tmp_path / f"adapter/checkpoints/checkpoint-{best}/adapter_model.safetensors")
    saved = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in saved)


def test_early_stopping_on_request(arguments, capsys):
    flags = [*arguments, "--learning-rate", "0.3", "--lr-schedule", "constant_with_warmup"]
    train_tinyllama.main([*flags, "--evaluations", "6", "--early-stopping-evaluations", "1"])
    assert "stopping early" in capsys.readouterr().out


def test_the_plot_is_a_picture(arguments, tmp_path):
    train_tinyllama.main(arguments)
    assert (tmp_path / "adapter/training.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_logs_every_step_once(arguments, tmp_path):
    train_tinyllama.main([*arguments, "--log-every-steps", "1"])
    before = (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()
    for name in ("checkpoint-6", "finished.json"):
        path = tmp_path / "adapter/checkpoints" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    train_tinyllama.main([*arguments, "--log-every-steps", "1", "--resume"])
    rows = [json.loads(line) for line in (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    first = {row["step"]: row["loss"] for row in map(json.loads, before) if "loss" in row}
    assert {row["step"]: row["loss"] for row in rows if "loss" in row} == first


def wandb_records(path: Path) -> list[bytes]:
    """The records of a run file: 7 bytes of header, then LevelDB's log format in blocks of 32 KiB, in which each piece
    has 4 bytes of checksum, 2 of length and 1 of kind (1 whole, 2 first, 3 middle, 4 last)."""
    data, at, records, parts = path.read_bytes(), 7, [], []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):
            records.append(b"".join(parts))
            parts = []
    return records


def test_wandb_offline_has_the_same_history_as_the_file(arguments, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    train_tinyllama.main([*arguments, "--wandb", "offline", "--wandb-tags", "a", "b", "--run-name", "try"])
    from wandb.proto import wandb_internal_pb2

    history = []
    for data in wandb_records(next((tmp_path / "adapter/wandb").glob("offline-run-*/run-*.wandb"))):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    rows = [json.loads(line) for line in (tmp_path / "adapter/metrics.jsonl").read_text().splitlines()]
    logged = {(row["_step"], name): value for row in history for name, value in row.items() if name[0] != "_"}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                assert logged[row["step"], name] == pytest.approx(value), name
