"""The pinned packages in Colab, around its own torch.

Only the standard library and the console are imported here, and by what is: the project's packages are not there yet.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from utils import colab, console
from utils.console import UserError

# Colab has a release of it that peft refuses, with an error at the first layer; nothing here needs it.
REFUSED_BY_PEFT = "torchao"

_session = {"outdated": False}  # holds packages that have been replaced on the disk since


def install(file: Path) -> None:
    """Installs the pinned packages in Colab; elsewhere that is the user's business.

    Colab's torch stays, since it fits the GPU's driver, and so does every package that this session has already loaded,
    since half of it would be old and half new. Does nothing when all the others are there.

    Raises UserError when the session must be restarted, since one that is loaded had to change, and when pip fails.
    """
    if not colab.in_colab():
        return
    if _installed(REFUSED_BY_PEFT):
        _pip("uninstall", "--yes", REFUSED_BY_PEFT)
    loaded = loaded_packages() | {"torch"}
    wanted = [line for line in pinned(file) if line.split("==")[0].lower() not in loaded]
    if any(_installed(name) != version for name, version in (line.split("==") for line in wanted)):
        console.say(f"installing {len(wanted)} packages; torch {_installed('torch')} stays as it is")
        if _install(wanted, kept=loaded):
            fault = _install(wanted, kept={"torch"})
            if fault:
                raise UserError(f"pip: {fault}")
            _session["outdated"] = True
    if _session["outdated"]:
        raise UserError("packages that were in use had to change: Runtime > Restart session, then run all cells again")


def _install(wanted: list[str], kept: set[str]) -> str | None:
    """What keeps pip from installing them with those in `kept` as they are, None when it has."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "kept.txt"
        constraints.write_text("".join(f"{name}=={_installed(name)}\n" for name in sorted(kept) if _installed(name)))
        return _pip("install", "--constraint", str(constraints), *wanted)


def _pip(command: str, *arguments: str) -> str | None:
    """pip's first complaint, None when it succeeds."""
    pip = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return lines[0].removeprefix("ERROR: ") if lines else "no reason given"


def pinned(file: Path) -> list[str]:
    """The `name==version` lines of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if "==" in line]


def loaded_packages() -> set[str]:
    """The names on PyPI, in lower case, of all packages that this process has imported something of."""
    modules = {name.partition(".")[0] for name in sys.modules}
    owners = importlib.metadata.packages_distributions()
    return {owner.lower() for module in modules for owner in owners.get(module, ())}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
