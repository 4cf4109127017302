"""What reaches where of a third person in the export, who never agreed: the README's part on privacy, held to it."""

from __future__ import annotations

import contextlib
import html
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import prepare_training_data
import test_model_loading
import train_tinyllama
from tests import third_person
from tests.third_person import BESIDE, REPEATED, SPOKEN
from utils import colab, records
from utils.evaluation import chat
from utils.export import __main__ as export

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ("train.jsonl", "validation.jsonl", "test.jsonl")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> tuple[Path, tuple[str, ...]]:
    """The folder of the exports, and every secret in them."""
    folder = tmp_path_factory.mktemp("server") / "raw"
    return folder, third_person.write(folder)


@pytest.fixture
def prepare(server, tmp_path, capsys):
    """Runs prepare with flags, and gives its folder and what it printed."""

    def run(*flags: str) -> tuple[Path, str]:
        out = tmp_path / "processed"
        prepare_training_data.main(["--source", str(server[0]), "--persona", "rohan", "--output-dir", str(out), *flags])
        return out, "".join(capsys.readouterr())

    return run


def contents(folder: Path, *names: str) -> str:
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def text_in(data: bytes) -> str:
    return data.decode("utf-8", "ignore")


def marked(text: str) -> set[str]:
    """The places whose words stand in a text."""
    return {place for place in third_person.PLACES if place in text}


def named(text: str) -> list[str]:
    return [name for name in third_person.NAMES if name in text.lower()]


def given_away(text: str, secrets: Iterable[str]) -> list[str]:
    return [secret for secret in secrets if secret in text]


def everything(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every file below a folder and in its archives."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), text_in(path.read_bytes())
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    for name in archive.namelist():
                        yield name, text_in(archive.read(name))


def test_secrets_reach_the_store_and_nothing_that_prepare_shows(server, prepare, tmp_path):
    out, printed = prepare()
    assert set(given_away(text_in((tmp_path / "processed.duckdb").read_bytes()), server[1])) == set(server[1])
    shown = printed + contents(out, *RECORDS, "report.json") + html.unescape(contents(out, "report.html"))
    assert not given_away(shown, server[1]) and str(third_person.ID) not in shown
    in_the_report = contents(out, "report.json")
    assert not marked(in_the_report) and not named(in_the_report)
    assert marked(contents(out, *RECORDS)) == SPOKEN | REPEATED | {"zqtitle"}


def test_pseudonyms_leave_no_name_in_any_prepared_file(prepare):
    out, printed = prepare("--names", "pseudonyms")
    assert not named(printed + contents(out, *RECORDS, "report.json", "report.html"))


def test_words_of_an_excluded_author_and_titles_of_their_threads_stay_out(prepare):
    out, printed = prepare("--exclude-authors", third_person.ACCOUNT)
    assert marked(printed + contents(out, *RECORDS, "report.json", "report.html")) == REPEATED


def test_the_forgotten_leave_the_store_the_records_and_what_killed_runs_left(server, prepare, tmp_path):
    out, _ = prepare()
    store = tmp_path / "processed.duckdb"
    spilled, staged = tmp_path / "processed.duckdb.tmp", tmp_path / ".processed.new"
    for leftover in (spilled, staged):
        leftover.mkdir()
        (leftover / "train.jsonl").write_text("zqhistory")

    prepare_training_data.main(["--output-dir", str(out), "--forget", str(third_person.ID)])
    assert marked(contents(out, *RECORDS, "report.json", "report.html")) == REPEATED
    assert marked(text_in(store.read_bytes())) == REPEATED | BESIDE
    assert not spilled.exists() and not staged.exists()

    prepare()  # the exports still hold it all
    assert marked(text_in(store.read_bytes())) == REPEATED | BESIDE


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="no clone")
@pytest.mark.parametrize(
    "name",
    [
        *("data/raw/export.json", "data/processed/train.jsonl", "data/processed.duckdb", "data/processed.duckdb.tmp/x"),
        *("data/.processed.new/train.jsonl", "data/.processed.previous/train.jsonl", "data/with-canaries/train.jsonl"),
        *("data/.processed.duckdb.new", "data/other/train.jsonl", "models/adapter/evaluation.html"),
    ],
)
def test_git_leaves_out_whatever_holds_messages(name):
    assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False).returncode == 0


def test_what_may_be_given_away_holds_nothing_of_anybody(server, prepare, tiny_base, tmp_path, monkeypatch):
    """From the export to the zip: only evaluation.html, which stays out of it, shows what somebody said."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(sys, "argv", ["train_tinyllama.py"])
    out, _ = prepare()
    adapter = tmp_path / "models" / "adapter"
    data = ("--data-dir", str(out), "--output-dir", str(adapter), "--base-model", str(tiny_base), "--device", "cpu")
    short = ("--max-steps", "2", "--evaluations", "1", "--evaluation-records", "4", "--wandb", "offline")
    train_tinyllama.main([*data, *short, "--quantization", "none"])
    tested = ("--adapter", str(adapter), "--test-file", str(out / "test.jsonl"), "--device", "cpu", "--records", "12")
    few = ("--prompts", "3", "--training-records", "8", "--max-new-tokens", "8")
    with contextlib.suppress(SystemExit):  # two steps of training teach the tiny model no replies
        test_model_loading.main([*tested, *few])
    conversation = chat.Conversation("You are Rohan.", turns=records.read(out / "test.jsonl"))
    chat.save(str(adapter / "chat.jsonl"), conversation)
    colab.pack(adapter)

    files = dict(everything(tmp_path / "models"))
    for name, content in files.items():
        anything = marked(content) or named(content) or given_away(content, server[1])
        assert bool(anything) is (Path(name) in (adapter / "evaluation.html", adapter / "chat.jsonl")), name
        assert str(third_person.ID) not in content
    assert any(name.endswith(".wandb") for name in files) and "adapter/README.md" in files
    assert not given_away(html.unescape(files[str(adapter / "evaluation.html")]), server[1])


def test_an_export_holds_nothing_of_anybody(server, prepare, adapter_folder, tmp_path):
    """The Modelfile holds the system prompt, and so the persona's name; nothing holds what was said."""
    out, _ = prepare()
    for form in ("merged", "ollama"):
        export.main(["--adapter", str(adapter_folder), "--to", form, "--test-file", str(out / "test.jsonl")])
        files = dict(everything(tmp_path / f"adapter-{form}"))
        for name, content in files.items():
            assert not marked(content) and not named(content) and not given_away(content, server[1]), name
    assert "Rohan" in files[str(tmp_path / "adapter-ollama/Modelfile")]


def test_a_crash_in_mid_training_shows_nothing_of_anybody(prepare, tiny_base, tmp_path, monkeypatch, capsys):
    """A bug keeps its traceback, which names files and lines and no values."""
    out, _ = prepare()
    capsys.readouterr()
    monkeypatch.setattr(train_tinyllama.base_models, "weights_sha256", lambda _: 1 / 0)
    data = ("--data-dir", str(out), "--output-dir", str(tmp_path / "m"), "--base-model", str(tiny_base))
    with pytest.raises(ZeroDivisionError) as crash:
        train_tinyllama.main([*data, "--device", "cpu", "--quantization", "none", "--wandb", "off"])
    shown = "".join([*traceback.format_exception(crash.value), *capsys.readouterr()])
    assert not marked(shown) and not named(shown)
