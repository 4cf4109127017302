"""The README's commands and snippets, run as they stand, in its order, in a copy of the project.

In the copy a tiny model stands where the starter and TinyLlama would: what is tried is that the words on the page lead
from a clone to an exported adapter.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from utils.chatlogs.settings import PrepareSettings
from utils.evaluation.settings import EvaluationSettings
from utils.export.settings import ExportSettings
from utils.training.colab_settings import ColabSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8").split("## Layout")[0]
PAGE_AFTER_LAYOUT = (ROOT / "README.md").read_text(encoding="utf-8").split("## Layout")[1].split("```", 2)[2]
PROGRAMS = ("python", "python3", "make", "pip", "accelerate", "llama-cli", "ollama", "vllm")
HUB_FOLDER = "hub/models--TinyLlama--TinyLlama-1.1B-Chat-v1.0"

# What the walk below doesn't run, and who does.
ELSEWHERE = {
    "make quickstart": "itself",
    "make test": "itself",
    "python3 -m venv .venv": "the Makefile",
    "python -m pip install -r requirements.txt": "the Makefile",
    "pip install -r requirements-web.txt": "tests/evaluation/test_web.py, where it is installed",
    "accelerate launch --config_file configs/distributed.yaml train_tinyllama.py": "tests/training/test_distributed.py",
    "llama-cli -m FOLDER/model.gguf -n 256 -sys 'SYSTEM PROMPT OF YOUR RECORDS'": (
        "tests/export/test_other_programs.py, where it is installed"
    ),
    "ollama create NAME -f FOLDER/Modelfile": "tests/export/test_other_programs.py, where it is installed",
    "ollama run NAME": "tests/export/test_other_programs.py, where it is installed",
    "vllm serve FOLDER": "tests/export/test_other_programs.py, where it is installed",
    "vllm serve TinyLlama/TinyLlama-1.1B-Chat-v1.0 --enable-lora --lora-modules NAME=models/tinyllama-finetuned": (
        "tests/export/test_other_programs.py, where it is installed"
    ),
}


@dataclass(frozen=True)
class Step:
    """A command of the README. `leaves` are files that are there afterwards; `exit_codes` those that are no mistake."""

    command: str
    leaves: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = (0,)
    typed: str = ""
    says: str = ""


TESTED = (0, 1)  # a model of two layers need not pass the checks of its replies
WALK = (
    Step("make doctor", says="torch"),
    Step(
        "python prepare_training_data.py --source data/sample --persona rohan",
        ("data/processed/train.jsonl", "data/processed/report.html", "data/processed.duckdb"),
    ),
    Step(
        "python train_tinyllama.py --config configs/cpu-starter.yaml",
        ("models/tinyllama-finetuned/adapter_model.safetensors", "models/tinyllama-finetuned/training.png"),
    ),
    Step("python test_model_loading.py", ("models/tinyllama-finetuned/evaluation.html",), TESTED, says="page"),
    Step("python train_tinyllama.py", ("models/tinyllama-finetuned/training.json",)),
    Step("python train_tinyllama.py --resume", ("models/tinyllama-finetuned/training.json",)),
    Step("python test_model_loading.py --chat", typed="hello\n"),
    Step("python -m utils.export --to merged", ("models/tinyllama-finetuned-merged/model.safetensors",)),
    Step("python -m utils.export --to gguf", ("models/tinyllama-finetuned-gguf/model.gguf",)),
    Step("python -m utils.export --to ollama", ("models/tinyllama-finetuned-ollama/Modelfile",)),
    Step("python prepare_training_data.py", exit_codes=(2,), says="--persona"),
    Step("python prepare_training_data.py --forget ID", ("data/processed/train.jsonl",)),
)


def blocks(page: str, language: str) -> list[str]:
    """The text of the fenced blocks in a language; "" stands for those that name none."""
    start = language + "\n"
    return [block.removeprefix(start) for block in page.split("\n```")[1::2] if block.startswith(start)]


def commands(page: str) -> list[str]:
    """Every command of a page, in blocks and in running text, without the path of the environment and comments."""
    text = "".join(page.split("\n```")[0::2])
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    lines = [re.sub(r"\s+# .*", "", line).replace(".venv/bin/", "").strip() for line in lines]
    return [line for line in lines if line.split()[:1] and line.split()[0] in PROGRAMS and " " in line]


def test_every_command_is_one_that_somebody_runs():
    known = {step.command for step in WALK} | set(ELSEWHERE)
    assert set(commands(PAGE + PAGE_AFTER_LAYOUT)) == known


def test_what_the_makefile_installs_is_what_the_readme_says():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-m venv .venv" in makefile
    assert re.search(r"-m pip install .*-r requirements\.txt", makefile)


def said_by_the_project() -> list[str]:
    """Every text in its code, with ... where a value is put in."""
    texts = []
    for path in (ROOT / "utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_every_message_that_is_explained_is_one_that_is_said():
    rows = PAGE.split("## When something is wrong")[1].split("## ")[0].split("|---|---|")[1].splitlines()
    messages = [re.findall(r"`([^`]+)`", row.split("|")[1])[0] for row in rows if row.startswith("| ")]
    assert len(messages) > 6
    texts = said_by_the_project()
    for message in set(messages) - {"No module named ..."}:  # Python's own
        parts = [re.escape(part.strip()) for part in message.split("...")]
        assert any(re.search(".*".join(parts), text) for text in texts), message


def test_every_flag_and_setting_on_the_page_is_one_that_a_script_has():
    schemas = (PrepareSettings, ColabSettings, EvaluationSettings, ExportSettings)
    known = {field.name for schema in schemas for field in dataclasses.fields(schema)} | {"config", "help"}
    text = re.sub(r"`(?:vllm|accelerate|pip)[^`]*`|--max-lora-rank", "", PAGE + PAGE_AFTER_LAYOUT)
    assert {flag.replace("-", "_") for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)} - known == set()
    assert {name.lower() for name in re.findall(r"`([A-Z][A-Z_]+)`", text)} - known == set()


@pytest.fixture(scope="module")
def clone(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git would take, in another folder, this environment as its own, the tiny model as starter and in
    the hub's cache."""
    folder = tmp_path_factory.mktemp("readme") / "my clone"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(lambda each: (ROOT / each).exists(), listed.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(tiny_base, folder / "models/base/smollm2-135m-instruct")
    hub = folder / "home" / HUB_FOLDER
    (hub / "refs").mkdir(parents=True)
    (hub / "refs/main").write_text("0" * 40)
    shutil.copytree(tiny_base, hub / "snapshots" / ("0" * 40))
    return folder


def run(folder: Path, command: list[str], typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    options = {"cwd": folder, "env": environment, "input": typed, "timeout": 900}
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the README's commands are those of a POSIX shell")
def test_the_page_from_top_to_bottom(clone):
    for step in WALK:
        if step.command == "python prepare_training_data.py":  # where one's own exports lie
            shutil.copytree(clone / "data/sample", clone / "data/raw", dirs_exist_ok=True)
        words = step.command.replace("--forget ID", f"--forget {a_person(clone)}").split()
        if words[0] == "python":
            words[0] = ".venv/bin/python"
        done = run(clone, words, step.typed)
        print(f"$ {step.command}\n{done.stdout}\n{done.stderr}")  # shown when something fails
        assert done.returncode in step.exit_codes
        assert not re.search(r"Traceback|\w+Warning:", done.stderr)
        assert step.says in done.stdout + done.stderr
        for name in step.leaves:
            assert (clone / name).exists(), f"{step.command} left no {name}"
    for code in blocks(PAGE + PAGE_AFTER_LAYOUT, "python"):
        done = run(clone, [sys.executable, "-c", code])
        assert done.returncode == 0, f"{code}\n{done.stderr}"


def a_person(folder: Path) -> str:
    """Somebody of the sample, who is not the persona."""
    import duckdb

    store = folder / "data/processed.duckdb"
    if not store.exists():
        return "0"
    with duckdb.connect(store, read_only=True) as messages:
        found = messages.execute(
            "SELECT author_id FROM messages WHERE author_name NOT ILIKE '%rohan%' AND NOT is_bot "
            "GROUP BY ALL ORDER BY count(*), author_id LIMIT 1"
        ).fetchall()
    return str(found[0][0])
