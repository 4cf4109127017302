"""Whatever CONTRIBUTING.md and the pages in docs/ send a reader to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "CONTRIBUTING.md"
PAGES = [GUIDE, *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [*ROOT.glob("*.py"), *(ROOT / "utils").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
TOP = {path.name for path in ROOT.iterdir()} - {"data", "models"}  # what is made there, a clone has not


def words(text: str) -> list[str]:
    """The single words within code spans."""
    return [word for span in re.findall(r"`([^`\n]+)`", text) for word in span.split()]


def paths(text: str) -> list[str]:
    """Those that name a file or folder from the project's root on."""
    return [word for word in words(text) if "/" in word and word.split("/")[0] in TOP]


def rows() -> list[list[str]]:
    """The table of where something new goes: what, where, copy the shape of."""
    lines = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_modules_exist(page):
    text = page.read_text(encoding="utf-8")
    assert [path for path in paths(text) if not any(ROOT.glob(path.rstrip("/")))] == []
    modules = {path.name for path in MODULES}
    assert {word for word in words(text) if re.fullmatch(r"\w+\.py", word)} - modules == set()


def test_there_are_paths_to_check():
    assert len(paths(GUIDE.read_text(encoding="utf-8"))) > 20
    assert len(rows()) > 10


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_names_files_of_one_place(row):
    """A bare name stands beside the path before it; a name of something "there" is in that file."""
    home = ROOT / next(path for path in paths(row[1]))
    folder = home if home.is_dir() else home.parent
    for name in words(" ".join(row[1:])):
        if re.fullmatch(r"\w+\.py", name):
            assert (folder / name).is_file()
        elif re.fullmatch(r"_?[A-Z]\w+", name):
            assert re.search(rf"^class {name}\b", home.read_text(encoding="utf-8"), re.MULTILINE)
