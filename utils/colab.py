"""What a notebook in Colab needs around the training: Drive, uploads, other scripts, pictures, downloads.

Everywhere else each function does the local equivalent, so that the same cells run as a plain script.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from utils import console
from utils.console import UserError

if TYPE_CHECKING:
    from utils.base_models import Compute

DRIVE = Path("/content/drive")
UPLOAD = "upload"  # as SOURCE: ask for files in the browser
PUBLISHED_GPU_GIB = 8  # what the published TinyLlama settings ask for
PAGE_HEIGHT_PX = 720
WITHOUT_MESSAGES = ("README.md", "training.json", "metrics.jsonl", "training.png", "evaluation.json")
CELL_COLUMNS = 120  # without a terminal, tables are cut at 80


def in_colab() -> bool:
    """Colab's kernel has its own package loaded; a script that is started from a cell is not in Colab in this sense."""
    return "google.colab" in sys.modules


def in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def arguments() -> list[str]:
    """The command line, empty in a notebook, whose command line is the kernel's."""
    return [] if in_notebook() else sys.argv[1:]


def show_runtime(compute: Compute) -> None:
    """Prints what this machine computes with, whether the published settings fit, and from one matrix product how long
    training takes; the preflight measures it on the data."""
    import torch

    from utils import speed

    dtype = str(compute.dtype).removeprefix("torch.")
    if compute.device.type != "cuda":
        console.say(f"no GPU that CUDA can use, so {compute.device.type} and {dtype}")
        console.warn('TinyLlama takes long like that: Runtime > Change runtime type > T4, or BASE_MODEL = "starter"')
    else:
        device = torch.cuda.get_device_properties(compute.device)
        major, minor = torch.cuda.get_device_capability(compute.device)
        memory_gib = device.total_memory / 2**30
        reason = "" if major >= 8 else ": before 8.0 bfloat16 is only emulated"
        console.say(f"{device.name}, {memory_gib:.1f} GiB, capability {major}.{minor}, so {dtype}{reason}")
        if memory_gib < PUBLISHED_GPU_GIB:
            console.warn(f"the published TinyLlama settings ask for {PUBLISHED_GPU_GIB} GB; lower MAX_LENGTH_TOKENS")
        else:
            console.say(f"the published TinyLlama settings ask for {PUBLISHED_GPU_GIB} GB, so they fit")
    console.say(speed.estimate(compute, speed.flops_per_second(compute)))


def storage(drive_folder: str | None) -> Path:
    """The folder for what must outlive the session: on Google Drive in Colab, the present folder anywhere else.

    `drive_folder` is its name in My Drive; None keeps everything in the session.

    Raises UserError when that leads elsewhere, such as "/rohanai", which the session would take with it.
    """
    if not in_colab() or drive_folder is None:
        return Path()
    my_drive = DRIVE / "MyDrive"
    folder = my_drive / drive_folder
    if not Path(os.path.normpath(folder)).is_relative_to(my_drive):
        raise UserError(f'DRIVE_FOLDER is a folder in My Drive, such as "rohanai", and {drive_folder} is not in there')
    from google.colab import drive

    try:
        drive.mount(str(DRIVE))
    except Exception as error:  # Colab has a class of its own for a declined request, and others for other failures
        console.warn(f"no Google Drive ({error}): checkpoints and adapter are lost when this session ends")
        return Path()
    return folder


def choose_source(source: str, folder: Path) -> Path:
    """The path to a Discord history; for "upload", `folder`, filled with files from the browser unless it has some.

    Raises UserError when nothing is uploaded, or outside Colab.
    """
    if source != UPLOAD:
        return Path(source)
    if any(not path.name.startswith(".") for path in folder.glob("*")):
        console.say(f"what was uploaded to {folder} before is used; delete it there to upload something else")
        return folder
    if not in_colab():
        raise UserError(f'SOURCE = "{UPLOAD}" works in Colab alone; name a folder, an export or a zip')
    from google.colab import files

    from utils import records

    with tempfile.TemporaryDirectory() as passing, contextlib.chdir(passing):  # Colab writes a copy into the folder
        uploaded = files.upload()
    if not uploaded:
        raise UserError("nothing was uploaded; run the cell again, or give SOURCE a path, such as one on Drive")
    for name, content in uploaded.items():
        records.write_atomically(folder / Path(name).name, content)
    return folder


def run_script(script: str, *arguments: str | Path, exit_codes: Container[int] = (0,)) -> None:
    """Runs another stage's script in its own process, its output in this cell.

    Raises UserError when it ends with none of `exit_codes`.
    """
    command = [sys.executable, "-u", script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    environment = {"COLUMNS": str(CELL_COLUMNS)} | os.environ | {"PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command, **pipes, env=environment) as process:
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode not in exit_codes:
        raise UserError(f"{script} stopped with exit code {process.returncode}; the reason stands above")


def free_memory() -> None:
    """Gives back the memory of models that no name refers to any more."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


def show_files(paths: Iterable[Path]) -> None:
    """Pictures and pages in the cell; their names where there is no notebook. What does not exist is left out."""
    for path in paths:
        if not path.exists():
            continue
        if not in_notebook():
            console.say(f"look at  {path}")
            continue
        from IPython.display import HTML, Image, display

        if path.suffix == ".html":  # in a frame, so that the page's style stays its own
            page = html.escape(path.read_text(encoding="utf-8"), quote=True)
            frame = f'<iframe srcdoc="{page}" width="100%" height="{PAGE_HEIGHT_PX}" frameborder="0"></iframe>'
            display(HTML(f"<div>{frame}</div>"))  # IPython warns of a bare frame
        else:
            display(Image(filename=str(path)))


def download(path: Path) -> None:
    """Hands a file to the browser in Colab; elsewhere says where it is."""
    console.say(f"saved  {path}")
    if in_colab():
        from google.colab import files

        files.download(str(path))


def pack(adapter: Path) -> Path:
    """Zips what a training left in an adapter's folder and what was measured, beside it; nothing else that lies there,
    since checkpoints are large, and evaluation.html and saved chats hold messages.

    Raises UserError as `manifests.read` does.
    """
    from utils import records
    from utils.saved_models import manifests

    manifest = manifests.read(adapter)
    names = sorted({*(manifest.sha256 if manifest else ()), *WITHOUT_MESSAGES})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (adapter / name for name in names):
            if path.is_file():
                archive.write(path, f"{adapter.name}/{path.name}")
    target = adapter.with_name(f"{adapter.name}.zip")
    records.write_atomically(target, content.getvalue())
    return target
