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


def install(file: Path) -> None:
    """Installs the pinned packages in Colab; elsewhere that is the user's business.

    Colab's torch stays, since it fits the GPU's driver, and so does every package that this session has already loaded,
    since half of it would be old and half new. Does nothing when all the others are there.

    Raises UserError when pip can't do it within those bounds.
    """
    if not colab.in_colab():
        return
    kept = loaded_packages() | {"torch"}
    wanted = [line for line in pinned(file) if line.split("==")[0].lower() not in kept]
    if all(_installed(name) == version for name, version in (line.split("==") for line in wanted)):
        return
    console.say(f"installing {len(wanted)} packages; torch {_installed('torch')} stays as it is")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "kept.txt"
        constraints.write_text("".join(f"{name}=={_installed(name)}\n" for name in sorted(kept) if _installed(name)))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--constraint", constraints, *wanted], capture_output=True, text=True, check=False
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise UserError(f"pip: {lines[0].removeprefix('ERROR: ')}; Runtime > Restart session, then run all cells again")


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
