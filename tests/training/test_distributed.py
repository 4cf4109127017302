"""Two processes learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import train_model

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_get_the_losses_and_weights_of_one(tiny_base, data_dir, tmp_path):
    arguments = [
        *("--base-model", str(tiny_base), "--data-dir", str(data_dir), "--device", "cpu", "--wandb", "off"),
        *("--max-steps", "4", "--lora-dropout", "0", "--batch-size", "2", "--gradient-accumulation-steps", "2"),
        *("--micro-batch-tokens", "32", "--log-every-steps", "1", "--save-every-steps", "2"),
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    train_model.main([*arguments, "--output-dir", str(one)])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "train_model.py", *arguments, "--output-dir", str(two)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step    4/4  validation perplexity") == 1  # one process speaks
    rows = [
        [row for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
        for folder in (one, two)
    ]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4]
    for alone, together in zip(*rows, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 1e-4, name
    assert {path.name for path in (two / "checkpoints/checkpoint-4").glob("rng_state*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
