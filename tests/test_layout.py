"""The rules of the house: who may import whom, what stays light, what stays short."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(ROOT.glob("*.py"))
MODULES = sorted((ROOT / "utils").rglob("*.py"))
GROUND_PACKAGES = {"privacy", "saved_models"}
GROUND_FLOOR = {path.stem for path in MODULES if path.parent.name == "utils"} - {"__init__"} | GROUND_PACKAGES
ROOMS = {"chatlogs", "training", "evaluation", "export"}
STAGE = {
    "prepare_training_data": "chatlogs",
    "train_tinyllama": "training",
    "train_model": "training",
    "train_colab": "training",
    "test_model_loading": "evaluation",
}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "wandb",
    "safetensors",
    "tokenizers",
}
NO_TORCH = [ROOT / "utils" / f"{name}.py" for name in ("settings", "console", "records")]
NO_TORCH += [ROOT / "prepare_training_data.py"]
NO_TORCH += [path for room in ("chatlogs", "privacy") for path in sorted((ROOT / "utils" / room).rglob("*.py"))]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names of everything that is imported anywhere in a tree; `from utils import x` counts as utils.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import hides who is imported"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_by(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8"))))


def rooms_and_modules(path: Path) -> set[str]:
    """Which rooms and ground floor modules of utils a file imports."""
    return {name.split(".")[1] for name in imported_by(path) if name.startswith("utils.")}


def at_import(path: Path) -> set[str]:
    """The packages that a file imports when it is imported itself: not those inside functions or for type checkers."""
    pending = list(ast.parse(path.read_text(encoding="utf-8")).body)
    found: set[str] = set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.split(".")[0] for name in imported(node)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def test_the_scripts_are_the_five():
    assert {path.stem for path in SCRIPTS} == set(STAGE)


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_a_script_imports_its_stages_room_and_the_ground_floor(path):
    assert rooms_and_modules(path) <= GROUND_FLOOR | {STAGE[path.stem]}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_itself_and_the_ground_floor(room):
    for path in sorted((ROOT / "utils" / room).rglob("*.py")):
        assert rooms_and_modules(path) <= GROUND_FLOOR | {room}, shown(path)


def test_the_ground_floor_imports_no_room():
    for path in MODULES:
        if path.parent.name in {"utils", *GROUND_PACKAGES}:
            assert rooms_and_modules(path) <= GROUND_FLOOR, shown(path)


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES], ids=shown)
def test_nothing_imports_a_script(path):
    assert not {name.split(".")[0] for name in imported_by(path)} & set(STAGE)


def test_what_prepares_data_never_names_a_training_library():
    for path in NO_TORCH:
        assert not {name.split(".")[0] for name in imported_by(path)} & HEAVY, shown(path)


@pytest.mark.parametrize("name", sorted({*STAGE} - {"prepare_training_data", "train_colab"}))
def test_heavy_imports_stand_inside_main(name):
    path = ROOT / f"{name}.py"
    assert not at_import(path) & HEAVY
    main = next(
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if getattr(node, "name", "") == "main"
    )
    assert any(name.startswith(f"utils.{STAGE[path.stem]}.") for name in imported(main))


def test_the_script_of_cells_knows_its_settings_before_anything_heavy():
    """train_colab.py has no main: it is a notebook, and runs from top to bottom."""
    path = ROOT / "train_colab.py"
    assert not at_import(path) & HEAVY
    cells = ast.parse(path.read_text(encoding="utf-8")).body
    resolved = next(index for index, cell in enumerate(cells) if "settings.resolve(" in ast.unparse(cell))
    before = {name for cell in cells[:resolved] for name in imported(cell) if name.startswith("utils.training.")}
    assert before == {"utils.training.colab_settings.ColabSettings"}


def test_preparing_loads_no_training_library():
    """The whole room, at run time: what a module imports may import torch in its turn."""
    room = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in NO_TORCH
        if path.parent.name != "utils" and "utils" in path.parts and path.stem != "__init__"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {['prepare_training_data', *room]}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_help_starts_at_once_and_without_torch(path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{path.name!r}, '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"finally: print('loaded', sorted({HEAVY} & set(sys.modules)))"
    )
    # Processor time is what the script itself needs, whatever else the machine is doing; Windows counts none.
    seconds = []
    for _ in range(3):
        wall, before = time.perf_counter(), os.times()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        after = os.times()
        used = after.children_user - before.children_user + after.children_system - before.children_system
        seconds.append(used or time.perf_counter() - wall)
        if seconds[-1] < 0.5:
            break
    assert done.returncode == 0, done.stderr
    assert path.name in done.stdout
    assert "--config" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"
    assert min(seconds) < 0.5


def test_pytest_finds_no_test_in_the_script_whose_name_it_would_collect():
    tree = ast.parse((ROOT / "test_model_loading.py").read_text(encoding="utf-8"))
    defined = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert not [name for name in defined if name.lower().startswith("test")]
    flags = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
    assert "__test__ = False" in flags


def test_modules_stay_short():
    lines = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*SCRIPTS, *MODULES]}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_no_drawer_for_whatever_is_left_over():
    assert not {path.stem for path in MODULES} & {"helpers", "common", "misc", "utils", "util"}


def test_the_tree_in_the_readme_is_the_tree_in_git():
    new = ["git", "ls-files", "--others", "--exclude-standard", "utils"]  # before it is committed
    listed = "".join(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for command in (["git", "ls-files"], new)
    )
    tracked = [Path(line) for line in listed.splitlines() if not line.startswith(".")]
    wanted = {path.parts[0] + ("/" if len(path.parts) > 1 else "") for path in tracked}
    for path in tracked:
        if path.parts[0] == "utils" and path.name != "__init__.py":
            wanted |= {path.name} | {f"{room}/" for room in path.parts[1:-1]}

    named = set()
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## Layout")[1].split("```")[1]
    for line in tree.splitlines():
        for entry in line.split():
            if not re.fullmatch(r"[\w.-]+(\.\w+|/)|Makefile", entry):
                break  # from here on it is the description
            named.add(entry)
    assert named == wanted
