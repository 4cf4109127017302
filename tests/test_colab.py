"""The Colab notebook: run as it is, twice, killed in the middle, on a pretended Colab and on a pretended T4."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from safetensors.torch import load_file

from utils import base_models, colab, colab_packages, speed
from utils.base_models import Compute
from utils.console import UserError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks/train_colab.ipynb"
WITHIN_THE_PROJECT = ROOT / "notebooks"
FEW_TESTS = ("--quick", "--records", "4", "--prompts", "1", "--max-new-tokens", "8")

# What google.colab's own modules do, as far as the notebook asks for it.
PRETENDED_COLAB = {
    "drive.py": """
        from pathlib import Path

        def mount(mountpoint):
            (Path(mountpoint) / "MyDrive").mkdir(parents=True, exist_ok=True)
            print(f"Mounted at {mountpoint}")
        """,
    "files.py": """
        import os
        import shutil
        from pathlib import Path

        def upload():
            content = Path(os.environ["TO_UPLOAD"]).read_bytes()
            Path("history.zip").write_bytes(content)
            return {"history.zip": content}

        def download(filename):
            shutil.copy(filename, "downloaded.zip")
        """,
}


def notebook_with(**settings: object) -> NotebookNode:
    """The notebook with other settings, as if a person had changed them in the first cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    return notebook


def add_before(notebook: NotebookNode, start: str, code: str) -> None:
    """Puts a cell before the first one whose code starts like that."""
    at = next(index for index, cell in enumerate(notebook.cells) if cell.source.startswith(start))
    notebook.cells.insert(at, nbformat.v4.new_code_cell(textwrap.dedent(code)))


def up_to(notebook: NotebookNode, start: str) -> NotebookNode:
    """The notebook up to the first cell whose code starts like that, this one included."""
    at = next(index for index, cell in enumerate(notebook.cells) if cell.source.startswith(start))
    notebook.cells = notebook.cells[: at + 1]
    return notebook


def flags(settings: dict[str, object]) -> list[str]:
    """The same settings on the command line."""
    return [part for name, value in settings.items() for part in (f"--{name.lower().replace('_', '-')}", str(value))]


def client(notebook: NotebookNode, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})


def told(notebook: NotebookNode) -> str:
    """All text that its cells show."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            texts.append(output.get("text") or data.get("text/plain") or "\n".join(output.get("traceback", ())))
    return "\n".join(texts)


def execute(running: NotebookClient, times: int = 1, but: str | None = None) -> None:
    """Runs each cell so many times, and none that starts like `but`."""
    for index, cell in enumerate(running.nb.cells):
        if but is None or not cell.source.startswith(but):
            for _ in range(times):
                running.execute_cell(cell, index)


def rerun(running: NotebookClient, *starts: str) -> None:
    """Runs these cells alone, as a person does who has changed a setting."""
    for start in starts:
        index, cell = next(each for each in enumerate(running.nb.cells) if each[1].source.startswith(start))
        running.execute_cell(cell, index)


def send(running: NotebookClient, number: signal.Signals) -> None:
    os.kill(running.km.provisioner.pid, number)


@contextlib.contextmanager
def at_checkpoint(adapter: Path, step: int, act: Callable[[], object]) -> Iterator[None]:
    """Acts in another thread as soon as there is a checkpoint of that step or a later one."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if any(int(path.name[11:]) >= step for path in adapter.glob("checkpoints/checkpoint-*")):
                act()
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def losses(metrics: str) -> dict[int, float]:
    """The training loss by step, out of the text of metrics.jsonl."""
    return {row["step"]: row["loss"] for row in map(json.loads, metrics.splitlines()) if "loss" in row}


@pytest.fixture
def quick(tiny_base, data_dir, tmp_path):
    """Settings of a run of six steps on the tiny base and prepared records."""
    return {
        "SOURCE": None,
        "DATA_DIR": str(data_dir),
        "OUTPUT_DIR": str(tmp_path / "adapter"),
        "BASE_MODEL": str(tiny_base),
        "DEVICE": "cpu",
        "WANDB": "off",
        "MAX_STEPS": 6,
        "BATCH_SIZE": 1,
        "GRADIENT_ACCUMULATION_STEPS": 2,
        "SAVE_EVERY_STEPS": 2,
    }


@pytest.fixture
def pretended_colab(tmp_path, monkeypatch):
    """An empty folder to open the notebook in, a repository to get the project from, and a module google.colab."""
    modules = tmp_path / "modules/google/colab"
    modules.mkdir(parents=True)
    (modules / "__init__.py").touch()
    for name, code in PRETENDED_COLAB.items():
        (modules / name).write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setenv("TO_UPLOAD", shutil.make_archive(str(tmp_path / "history"), "zip", ROOT / "data/sample"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # whatever the notebook installs must be there already

    repository = tmp_path / "repository"
    for name in ("utils", "data/sample", "configs"):
        shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "requirements.txt"):
        shutil.copy(path, repository)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(repository)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "All"]):
        subprocess.run([*git, *command], check=True)

    content = tmp_path / "content"
    content.mkdir()
    return content


def in_colab(notebook: NotebookNode, tmp_path: Path) -> NotebookNode:
    """Loads google.colab first, as Colab's kernel does, and mounts Drive where the test may write."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import google.colab"))
    add_before(
        notebook,
        "storage =",
        f"""
        colab.DRIVE = Path({str(tmp_path / "drive")!r})
        """,
    )
    return notebook


def test_the_notebook_is_the_script():
    script, notebook = jupytext.read(ROOT / "train_colab.py"), nbformat.read(NOTEBOOK, as_version=4)
    of_both = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (notebook, script)]
    assert of_both[0] == of_both[1], "notebooks/train_colab.ipynb is not what train_colab.py says: make notebook"
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert notebook.metadata.accelerator == "GPU"


def test_on_colab_from_an_empty_folder_to_the_download_and_all_again(pretended_colab, tiny_base, tmp_path):
    """On its own in an empty folder: gets the project, mounts Drive, takes an upload, trains, tests, hands over."""
    chosen = {"REPOSITORY": str(tmp_path / "repository"), "SOURCE": "upload", "BASE_MODEL": str(tiny_base)}
    few = {"MAX_STEPS": 2, "LOG_EVERY_STEPS": 1, "BATCH_SIZE": 2, "EVALUATION_RECORDS": 4, "EVALUATIONS": 1}
    notebook = in_colab(notebook_with(**chosen, **few, WANDB="off", TEST_FLAGS=FEW_TESTS), tmp_path)
    drive = tmp_path / "drive/MyDrive/rohanai"
    adapter = drive / "models/tinyllama-finetuned"
    running = client(notebook, pretended_colab)
    with running.setup_kernel():
        execute(running)
        once = told(notebook)
        weights, metrics = load_file(adapter / "adapter_model.safetensors"), (adapter / "metrics.jsonl").read_text()
        execute(running, but="test_file =")  # most of its time, and another process
        rerun(running, "from dataclasses import replace", "from utils.training import", "start = checkpoints")

    assert "UserWarning" not in once
    for text in ("Mounted at", "2 steps in micro-batches of", "validation perplexity", "saved "):
        assert text in once
    shown = {kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())}
    assert shown >= {"image/png", "text/html"}
    assert (adapter / "evaluation.json").exists()
    assert "going on from" in told(notebook)
    again = load_file(adapter / "adapter_model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert losses(metrics) == losses((adapter / "metrics.jsonl").read_text())
    assert len(losses(metrics)) == 2

    assert [path.name for path in pretended_colab.iterdir()] == ["rohanai"]
    assert not (pretended_colab / "rohanai/models").exists()  # all that must last is on Drive
    assert [path.name for path in (drive / "data/raw").iterdir()] == ["history.zip"]
    with zipfile.ZipFile(pretended_colab / "rohanai/downloaded.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert names >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "training.json", "README.md"}


@pytest.mark.slow
def test_killed_and_stopped_and_every_cell_twice_ends_as_an_uninterrupted_script(quick, tmp_path):
    quick |= {"MAX_STEPS": 100}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, "train_colab.py", *flags(quick | {"OUTPUT_DIR": str(whole)})]
    script = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stderr
    assert (whole / "evaluation.json").exists()
    assert f"saved  {tmp_path / 'whole.zip'}" in script.stdout

    notebook = up_to(notebook_with(**quick | {"OUTPUT_DIR": str(broken)}), "start = checkpoints")
    running = client(notebook, WITHIN_THE_PROJECT)
    with (
        pytest.raises(DeadKernelError),
        running.setup_kernel(),
        at_checkpoint(broken, 4, lambda: send(running, signal.SIGKILL)),
    ):
        execute(running)
    assert not (broken / "checkpoints/finished.json").exists()
    assert not (broken / "adapter_model.safetensors").exists()

    running = client(notebook, WITHIN_THE_PROJECT)
    with running.setup_kernel():
        with pytest.raises(CellExecutionError), at_checkpoint(broken, 40, lambda: send(running, signal.SIGINT)):
            execute(running)
        assert "going on from" in told(notebook)
        assert "and saved; run this cell again" in told(notebook)
        assert not (broken / "checkpoints/finished.json").exists()
        execute(running, times=2)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_t4_that_says_it_can_do_bfloat16_gets_float16(quick):
    notebook = up_to(notebook_with(**quick | {"DEVICE": "auto"}), "libraries.prepare()")
    add_before(
        notebook,
        "libraries.prepare()",
        """
        from types import SimpleNamespace
        import torch
        torch.cuda.is_available = lambda: True
        torch.cuda.device_count = lambda: 1
        torch.cuda.get_device_capability = lambda device=None: (7, 5)
        torch.cuda.is_bf16_supported = lambda including_emulation=True: including_emulation
        torch.cuda.get_device_properties = lambda device: SimpleNamespace(name="Tesla T4", total_memory=15843721216)
        from utils import speed
        speed.flops_per_second = lambda compute: 20e12
        """,
    )
    client(notebook, WITHIN_THE_PROJECT).execute()
    shown = told(notebook)
    assert "Tesla T4, 14.8 GiB, capability 7.5, so float16: before 8.0 bfloat16 is only emulated" in shown
    assert "training on 100,000 tokens (once over some 1,300 chat replies) takes at best 3 s with the starter" in shown


@pytest.mark.parametrize(
    ("name", "capability", "gib", "dtype", "fits"),
    [
        ("Tesla T4", (7, 5), 14.7, "float16", True),
        ("Tesla V100-SXM2-16GB", (7, 0), 15.8, "float16", True),
        ("NVIDIA L4", (8, 9), 22.2, "bfloat16", True),
        ("NVIDIA A100-SXM4-40GB", (8, 0), 39.6, "bfloat16", True),
        ("GeForce GTX 1650", (7, 5), 3.9, "float16", False),
    ],
)
def test_each_runtime_is_told_with_its_dtype(monkeypatch, capsys, name, capability, gib, dtype, fits):
    properties = types.SimpleNamespace(name=name, total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(speed, "flops_per_second", lambda _: 20e12)
    compute = base_models.choose_compute("nf4")
    colab.show_runtime(compute)
    shown = capsys.readouterr()
    assert compute.dtype == getattr(torch, dtype)
    assert f"{name}, {gib:.1f} GiB, capability {capability[0]}.{capability[1]}, so {dtype}" in shown.out
    assert ("they fit" in shown.out) is fits
    assert "takes at best 3 s with the starter, 22 s with TinyLlama" in shown.out
    assert ("lower MAX_LENGTH_TOKENS" in shown.err) is not fits


def test_no_gpu_is_told_with_what_to_do(capsys):
    colab.show_runtime(Compute(torch.device("cpu"), torch.float32, "nf4"))
    shown = capsys.readouterr()
    assert "cpu and float32" in shown.out
    assert re.search(r"takes about [\d.]+ \w+ with the starter, \d", shown.out)
    assert 'BASE_MODEL = "starter"' in shown.err


def test_a_mistake_in_the_first_cell_is_one_line(quick):
    notebook = notebook_with(**quick | {"LEARNING_RATE": "fast"})
    with pytest.raises(CellExecutionError):
        client(notebook, WITHIN_THE_PROJECT).execute()
    assert told(notebook).splitlines() == ["error: LEARNING_RATE in script: expected `float`, got `str`, not 'fast'"]


def test_a_project_that_git_cannot_get_is_told_without_a_traceback(tmp_path):
    notebook = up_to(notebook_with(REPOSITORY=str(tmp_path / "nowhere")), "import os")
    with pytest.raises(CellExecutionError):
        client(notebook, tmp_path).execute()
    assert re.search(r"git can't get the project from REPOSITORY: .*nowhere' does not exist", told(notebook))
    assert "CalledProcessError" not in told(notebook)


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2():
    command = [sys.executable, "train_colab.py", "--learning-rte", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown setting --learning-rte; did you mean --learning-rate?\n"


@pytest.fixture
def colab_is_loaded(monkeypatch):
    """google.colab is imported, with the drive and the files that a test gives it."""
    package = types.ModuleType("google.colab")
    monkeypatch.setitem(sys.modules, "google.colab", package)
    return package


def a_wheel(folder: Path, name: str, requires: str = "") -> None:
    """A package without any code, so that pip has something to find."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (
        f"Requires-Dist: {requires}\n" if requires else ""
    )
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture
def pip_from(tmp_path, monkeypatch):
    """pip finds what is in the folder, and installs nothing."""
    for name, value in {"NO_INDEX": "1", "DRY_RUN": "1", "FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path


def test_colabs_torch_is_never_replaced(colab_is_loaded, pip_from):
    a_wheel(pip_from, "harmless", "torch>=2")
    a_wheel(pip_from, "greedy", "torch<2")
    a_wheel(pip_from, "torch")
    requirements = pip_from / "requirements.txt"
    requirements.write_text("torch==1.0  # not wanted here\nharmless==1.0\n")
    colab_packages.install(requirements)
    requirements.write_text("torch==1.0\ngreedy==1.0\n")
    with pytest.raises(UserError, match=r"pip: .*conflict"):
        colab_packages.install(requirements)


def test_a_package_in_use_that_must_change_asks_for_a_new_session(colab_is_loaded, pip_from, monkeypatch, capsys):
    monkeypatch.setitem(colab_packages._session, "outdated", False)
    a_wheel(pip_from, "msgspec")
    a_wheel(pip_from, "demanding", "msgspec==1.0")
    requirements = pip_from / "requirements.txt"
    requirements.write_text("demanding==1.0\n")
    with pytest.raises(UserError, match=r"had to change: Runtime > Restart session, then run all cells again"):
        colab_packages.install(requirements)
    requirements.write_text("")  # as if it were installed now: this session still holds the old one
    with pytest.raises(UserError, match="Restart session"):
        colab_packages.install(requirements)


def test_colabs_torchao_which_peft_refuses_goes(colab_is_loaded, pip_from, monkeypatch):
    asked = []
    versions = {"torchao": "0.10.0"}
    monkeypatch.setattr(colab_packages, "_installed", versions.get)
    monkeypatch.setattr(colab_packages, "_pip", lambda *arguments: asked.append(arguments))
    (pip_from / "requirements.txt").write_text("")
    colab_packages.install(pip_from / "requirements.txt")
    assert asked == [("uninstall", "--yes", "torchao")]
    versions.clear()
    colab_packages.install(pip_from / "requirements.txt")
    assert len(asked) == 1


def test_a_package_in_use_stays_as_it_is(colab_is_loaded, pip_from):
    a_wheel(pip_from, "msgspec")
    requirements = pip_from / "requirements.txt"
    requirements.write_text("msgspec==1.0\n")
    colab_packages.install(requirements)  # loaded by this process: nothing to do


def test_what_is_installed_is_not_installed_again(colab_is_loaded, monkeypatch):
    monkeypatch.setattr(colab_packages, "subprocess", None)
    colab_packages.install(ROOT / "requirements.txt")


def test_outside_colab_nothing_is_installed_mounted_or_uploaded(monkeypatch, tmp_path):
    monkeypatch.setattr(colab_packages, "subprocess", None)
    (tmp_path / "requirements.txt").write_text("no-such-package==1.0\n")
    colab_packages.install(tmp_path / "requirements.txt")
    assert colab.storage("rohanai") == Path()
    with pytest.raises(UserError, match="works in Colab alone"):
        colab.choose_source("upload", tmp_path / "raw")


def test_without_drive_training_goes_on(colab_is_loaded, capsys):
    def declined(mountpoint: str) -> None:
        raise ValueError("mount failed")

    colab_is_loaded.drive = types.SimpleNamespace(mount=declined)
    assert colab.storage("rohanai") == Path()
    assert "no Google Drive (mount failed): checkpoints and adapter are lost" in capsys.readouterr().err
    assert colab.storage(None) == Path()


@pytest.mark.parametrize("drive_folder", ["/rohanai", "../rohanai", "a/../.."])
def test_a_drive_folder_that_is_not_on_drive_is_refused(colab_is_loaded, drive_folder):
    with pytest.raises(UserError, match="DRIVE_FOLDER is a folder in My Drive"):
        colab.storage(drive_folder)


def test_an_upload_is_kept_and_not_asked_for_again(colab_is_loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    answers = [{}, {"general.json": b"[]"}]
    colab_is_loaded.files = types.SimpleNamespace(upload=lambda: answers.pop(0))
    raw = tmp_path / "raw"
    with pytest.raises(UserError, match="nothing was uploaded"):
        colab.choose_source("upload", raw)
    assert colab.choose_source("upload", raw) == raw
    assert (raw / "general.json").read_bytes() == b"[]"
    assert colab.choose_source("upload", raw) == raw
    assert "before is used" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["README.md", "README (1).md"])  # what Colab called an upload at first, and does now
def test_an_upload_leaves_the_projects_files_alone(colab_is_loaded, tmp_path, monkeypatch, key):
    def upload() -> dict[str, bytes]:
        saved = Path("README (1).md" if Path("README.md").exists() else "README.md")
        saved.write_bytes(b"theirs")
        return {key: b"theirs"}

    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("ours")
    colab_is_loaded.files = types.SimpleNamespace(upload=upload)
    colab.choose_source("upload", Path("data/raw"))
    assert {path.name: path.read_text() for path in tmp_path.glob("*.*")} == {"README.md": "ours"}
    assert (tmp_path / "data/raw" / key).read_bytes() == b"theirs"


def test_a_script_that_stops_stops_the_notebook(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('soup ☕')\nsys.exit(int(sys.argv[1]))\n")
    colab.run_script(str(script), "0")
    colab.run_script(str(script), "1", exit_codes=(0, 1))
    with pytest.raises(UserError, match="stopped with exit code 1"):
        colab.run_script(str(script), "1")
    assert capsys.readouterr().out == "soup ☕\n" * 3


def test_the_zip_holds_no_message_and_no_checkpoint(adapter_folder):
    left = {path.name for path in adapter_folder.iterdir()}
    (adapter_folder / "checkpoints").mkdir()
    for name in ("evaluation.html", "evaluation.json", "saved-chat.jsonl", "notes", "checkpoints/optimizer.pt"):
        (adapter_folder / name).write_text("x")
    with zipfile.ZipFile(colab.pack(adapter_folder)) as archive:
        assert set(archive.namelist()) == {f"adapter/{name}" for name in left | {"evaluation.json"}}
