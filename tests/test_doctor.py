"""The doctor: one line a part, a fix where something is off, and no traceback whatever is missing or broken."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import venv
from pathlib import Path

import pytest
from conftest import ROOT

from utils.doctor import __main__ as doctor
from utils.doctor import probes, project

PARTS = [
    "Python",
    "packages",
    "torch",
    "bitsandbytes",
    "W&B",
    "model hub",
    "disk",
    "starter",
    "data",
    "adapters",
]


def consult(python: str | Path, home: Path) -> tuple[int, str]:
    environment = {**os.environ, "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-m", "utils.doctor"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def states(output: str) -> dict[str, str]:
    lines = [line for line in output.splitlines() if line[:4] in ("ok  ", "note", "FAIL")]
    return {line[6:].split("  ")[0]: line[:4].strip() for line in lines}


def test_where_training_works_it_says_so(tmp_path):
    code, output = consult(sys.executable, tmp_path)
    found = states(output)
    assert list(found) == PARTS
    assert found["Python"] == found["bitsandbytes"] == "ok"
    assert found["W&B"] == found["model hub"] == "note"
    assert re.search(r"on 100,000 tokens \(once over some 1,300 chat replies\) takes (about|at best) \d", output)
    assert (code, output.splitlines()[-1]) == (0, "training can work here")


def test_where_nothing_is_installed_it_says_what_to_do(tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    python = next(iter((tmp_path / "bare").glob("bin/python"))) if os.name != "nt" else tmp_path / "bare/Scripts/python"
    code, output = consult(python, tmp_path)
    found = states(output)
    assert list(found) == PARTS
    assert found["packages"] == found["torch"] == found["bitsandbytes"] == "FAIL"
    assert found["W&B"] == "note"
    assert "not installed: torch, transformers, peft" in output
    assert f"-> {python} -m pip install -r requirements.txt" in output
    assert "No module named 'torch'" in output
    assert "Traceback" not in output
    assert (code, output.splitlines()[-1]) == (1, "training can't work here yet: packages, torch, bitsandbytes")


def test_too_old_a_python_is_all_that_is_said(monkeypatch, capsys):
    """What else is missing there is missing in the wrong place."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    monkeypatch.setattr(sys, "argv", ["doctor"])
    assert doctor.main() == 1
    assert list(states(capsys.readouterr().out)) == ["Python"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_too_old_a_python(tmp_path):
    stand_in = tmp_path / "python3"  # this very Python, saying that it is 3.10
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 13); $2"\n')
    stand_in.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "doctor", f"PYTHON={stand_in}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not (tmp_path / ".venv").exists()
    assert "Python 3.10 is too old: install 3.11 or newer" in done.stderr


def test_a_library_that_is_there_and_broken_is_to_be_installed_anew(tmp_path, monkeypatch):
    """Installing the requirements once more would leave it as it is."""
    (tmp_path / "bitsandbytes.py").write_text("raise RuntimeError('libbitsandbytes_cuda130.so: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = doctor.isolate("bitsandbytes", "bitsandbytes", 60, "broken")
    assert finding.detail == "does not work: RuntimeError: libbitsandbytes_cuda130.so: cannot open"
    assert re.search(r"-m pip install --force-reinstall --no-deps bitsandbytes==\d\S+$", finding.fix)


def test_another_python_than_the_projects_is_sent_to_it(folder, monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    own = Path(".venv") / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = f"{own} -m pip install -r requirements.txt"
    assert (project.python().state, project.install()) == ("fine", f"{sys.executable} -m venv .venv, then {packages}")
    (folder / own).parent.mkdir(parents=True)
    (folder / own).touch()
    found = project.python()
    assert (found.state, found.fix, project.install()) == ("optional", f"{own} -m utils.doctor", packages)


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins for Python are shell scripts")
@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("sleep 20", "no answer in 0 s"),
        ("kill -SEGV $$", "does not work: its process died of signal 11"),
        ("echo 'Error: libcudart.so not found' >&2; exit 1", "does not work: Error: libcudart.so not found"),
        ("echo '{\"odd\": 1}'", "does not work: no message"),
    ],
)
def test_a_probe_that_fails_is_a_finding(tmp_path, monkeypatch, script, detail):
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    finding = doctor.isolate("torch", "torch", 0.4 if "sleep" in script else 20, "broken")
    assert (finding.state, finding.detail) == ("broken", detail)
    assert finding.fix


def test_4_bit_products_that_are_wrong(monkeypatch):
    import bitsandbytes

    assert probes.bitsandbytes_probe().state == "fine"
    right = bitsandbytes.functional.dequantize_4bit
    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", lambda *a, **k: right(*a, **k) * 2)
    finding = probes.bitsandbytes_probe()
    assert finding.state == "broken"
    assert "is wrong on" in finding.detail
    assert finding.fix == "train with --quantization none"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    return tmp_path


def test_a_command_names_the_python_that_runs(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert project.command("x.py") == "/usr/bin/python3 x.py"
    monkeypatch.setattr(sys, "executable", str(folder / ".venv/bin/python"))
    assert project.command("x.py") == str(Path(".venv/bin/python")) + " x.py"


def test_a_gpu_that_torch_can_not_use(monkeypatch):
    import torch

    for there in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(there, "is_available", lambda: False)
    monkeypatch.setattr(probes.shutil, "which", lambda name: f"/usr/bin/{name}")
    finding = probes.torch_probe()
    assert finding.state == "optional"
    assert "NVIDIA GPU that torch can't use" in finding.fix
    monkeypatch.setattr(probes.shutil, "which", lambda _: None)
    assert "configs/cpu-starter.yaml" in probes.torch_probe().fix


def test_lines_are_as_wide_as_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    doctor.show("ok    disk  ", "one line where there is no terminal, whatever its length")
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    doctor.show("ok    disk  ", "words that go on in the next line, under the first, unbroken-and-whole")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok    disk  words")
    assert all(line.startswith(" " * 12) for line in lines[1:])
    assert max(len(line) for line in lines) <= 40
    assert lines[-1].endswith("unbroken-and-whole")


def test_packages_against_the_pinned_ones(folder):
    requirements = folder / "requirements.txt"
    requirements.write_text("# a comment\nrich==0.0.1\n")
    finding = project.packages()
    assert finding.state == "optional"
    assert "instead of 0.0.1" in finding.detail
    requirements.write_text("rich==0.0.1\nno-such-package==1.0\n")
    assert (project.packages().state, project.packages().detail) == ("broken", "not installed: no-such-package")


def test_data_step_by_step(folder):
    (folder / "data/raw").mkdir(parents=True)
    assert project.data().fix == f"{sys.executable} prepare_training_data.py --source data/sample --persona rohan"
    (folder / "data/raw/general.json").write_text("{}")
    assert project.data().fix == f"{sys.executable} prepare_training_data.py"
    (folder / "data/processed").mkdir()
    (folder / "data/processed/train.jsonl").write_text("{}\n{}\n\n")
    finding = project.data()
    assert (finding.state, finding.detail) == ("fine", "data/processed: 2 records")


def test_starter_and_adapters(folder):
    assert (project.starter().state, project.adapters().state) == ("optional", "optional")
    for path in ("models/base/smollm2-135m-instruct/model.safetensors", "models/mine/adapter_config.json"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).touch()
    assert (project.starter().state, project.adapters().detail) == ("fine", "models/mine")


@pytest.mark.parametrize(("free_gb", "state"), [(0.5, "broken"), (2, "optional"), (50, "fine")])
def test_disk(monkeypatch, free_gb, state):
    usage = project.shutil.disk_usage("/")
    monkeypatch.setattr(project.shutil, "disk_usage", lambda _: usage._replace(free=int(free_gb * 1e9)))
    assert project.disk().state == state


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


def test_a_hub_that_answers_and_one_that_does_not(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert probes.hub_probe().state == "fine"
    finding = probes.hub_probe()
    assert finding.state == "optional"
    assert "can't be reached" in finding.detail
    assert "--base-model starter" in finding.fix
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    finding = probes.hub_probe()
    assert "through your proxy" in finding.detail and "HTTPS_PROXY" in finding.fix
    assert "secret" not in str(finding)


def test_wandb_without_and_with_a_login(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert probes.wandb_probe().detail == "not logged in; metrics go into files alone"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password invented\n")
    (tmp_path / ".netrc").chmod(0o644)  # wandb doesn't mind

    def unreachable(*_, **__):
        raise OSError

    monkeypatch.setattr(probes.socket, "create_connection", unreachable)
    finding = probes.wandb_probe()
    assert finding.detail == "logged in, but api.wandb.ai can't be reached"
    assert "invented" not in str(finding)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user\n")
    assert probes.wandb_probe().detail == "not logged in; metrics go into files alone"
