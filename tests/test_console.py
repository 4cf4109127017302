"""What reaches the terminal, whatever is printed and whoever listens."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils import console

ROOT = Path(__file__).parents[1]
WORK = """
import pathlib, sys
from utils import console

def main():
    for number in range(20_000):
        console.say(f"line {number} 🎉")
    console.warn("🎉")
    console.table(["🎉"], [["🎉"]])
    pathlib.Path(sys.argv[1]).write_text("done")
    raise console.UserError("🎉")

console.run(main)
"""


def work(file: Path, shell: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs WORK as `shell` says, and returns what became of it."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "-c", WORK, str(file)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize(
    "shell",
    [
        '"$@" | head -1; exit ${PIPESTATUS[0]}',
        '"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}',
        '"$@" >&-',
        '"$@" >&- 2>&- <&-',
    ],
)
def test_work_goes_on_when_nobody_reads(tmp_path, shell):
    done = work(tmp_path / "file", shell)
    assert (tmp_path / "file").read_text() == "done" and done.returncode == 2
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize("shell", ['"$@" | head -1 >&2; exit ${PIPESTATUS[0]}', '"$@" >&- 2>&-'])
@pytest.mark.parametrize(
    "command",
    [
        *(f"{name}.py" for name in ("prepare_training_data", "train_tinyllama", "train_model", "train_colab")),
        *("test_model_loading.py", "-m utils.export", "-m utils.doctor"),
    ],
)
def test_help_whose_reader_leaves_ends_in_silence(command, shell):
    done = subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, *command.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == (1 if "head" in shell else 0)


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_text_that_a_stream_can_not_hold_is_shown_by_number(tmp_path, encoding):
    done = work(tmp_path / "file", '"$@"', PYTHONIOENCODING=encoding)
    assert done.returncode == 2 and done.stdout.startswith(b"line 0 \\U0001f389\n")
    assert done.stderr == b"warning: \\U0001f389\nerror: \\U0001f389\n"


def test_names_and_messages_can_not_steer_the_terminal(capsys):
    hostile = "a\x1b[31mred\x07 \x9b2J \u202edlrow"
    console.say(hostile)
    console.heading(hostile)
    console.warn(hostile)
    console.table([""], [[hostile]])
    printed = capsys.readouterr()
    shown = "a·[31mred· ·2J ·dlrow"
    assert [line.strip() for line in printed.out.splitlines() if line.strip()] == [shown] * 3
    assert printed.err == f"warning: {shown}\n"


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied")])
def test_what_the_disk_does_not_allow_is_one_line(capsys, number, told):
    def main():
        raise OSError(number, "", "some/\nplace")

    with pytest.raises(SystemExit) as exit_:
        console.run(main)
    line = capsys.readouterr().err
    assert exit_.value.code == 2 and line.count("\n") == 1
    assert line.startswith("error: the disk says") and told in line and "some/ place" in line


@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize("script", ["prepare_training_data.py", "train_model.py"])
def test_a_folder_that_is_gone_is_one_line(tmp_path, script):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'cd "{gone}" && rmdir "{gone}" && "{sys.executable}" "{ROOT / script}" --output-dir "{tmp_path}/out"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "error: the folder that you are in is gone; change to another one\n"
    assert done.returncode == 2


def test_a_bug_keeps_its_traceback():
    def main():
        raise FileNotFoundError(errno.ENOENT, "", "gone")

    with pytest.raises(FileNotFoundError):
        console.run(main)


def test_the_python_to_type(tmp_path, monkeypatch):
    own = tmp_path / "venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setenv("PATH", str(own.parent))  # as in an environment that was activated
    assert console.python() == "python"
    monkeypatch.setenv("PATH", "")
    assert console.python() == str(own)
    monkeypatch.chdir(tmp_path)
    assert console.python() == str(Path("venv/bin/python"))


def test_the_python_to_type_where_a_folder_holds_several(tmp_path, monkeypatch):
    folder = tmp_path / "my programs"
    folder.mkdir()
    for name in ("python", "python3.12"):
        (folder / name).touch(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python3.12"))
    monkeypatch.setenv("PATH", str(folder))
    assert console.python() == console.typed(folder / "python3.12") != str(folder / "python3.12")


@pytest.mark.parametrize(
    ("system", "word", "typed"),
    [
        ("posix", "my data", "'my data'"),
        ("posix", "data", "data"),
        ("nt", "my data", '"my data"'),
        ("nt", "data\\out", "data\\out"),
    ],
)
def test_a_word_is_typed_as_the_systems_shell_reads_it(monkeypatch, system, word, typed):
    with monkeypatch.context() as patched:
        patched.setattr(console.os, "name", system)
        found = console.typed(word)
    assert found == typed


def test_leaving_ends_the_process_at_once_with_all_that_it_said():
    code = "import atexit\nfrom utils import console\natexit.register(print, 'late')\nprint('said')\nconsole.leave()\n"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "said\n", "")


def test_a_notebook_is_told_its_own_names_of_settings():
    mistake = console.UserError("add --restart (--resume fails), or another --output-dir; a--b is no flag, nor is --")
    assert mistake._render_traceback_() == [
        "error: add RESTART (RESUME fails), or another OUTPUT_DIR; a--b is no flag, nor is --"
    ]


def test_a_bar_that_nobody_sees_says_nothing(monkeypatch, capsys):
    """rich 13, Colab's, ends even a disabled one with a line."""
    monkeypatch.setattr(console.Progress, "stop", lambda bar: bar.console.print())
    with console.progress("files") as bar:
        console.say("read", above=bar)
    assert (capsys.readouterr().err, bar.disable) == ("", True)
