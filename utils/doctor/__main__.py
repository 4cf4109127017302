"""Can this machine train? One line a part, with the fix where something is off.

    python -m utils.doctor

Exits with 0 when training can work and with 1 when it can't. Needs nothing but Python itself, so that it also runs
where nothing is installed yet. Probes that load libraries run in processes of their own: one that hangs or crashes is
a finding, not the end.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from utils.doctor import project
from utils.doctor.finding import Finding, State

MARKS: dict[State, str] = {"fine": "ok  ", "optional": "note", "broken": "FAIL"}

# (name of the probe and of its package, part as shown, seconds to wait, what it means when the probe itself fails)
ISOLATED: tuple[tuple[str, str, float, State], ...] = (
    ("torch", "torch", 180, "broken"),
    ("bitsandbytes", "bitsandbytes", 180, "broken"),
    ("wandb", "W&B", 180, "optional"),
    ("hub", "model hub", 30, "optional"),
)


def main() -> int:
    """Prints the findings and gives the exit code."""
    argparse.ArgumentParser(
        "python -m utils.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a folder may be named as the terminal can't write
    findings = [project.python()]
    if findings[0].state != "broken":  # what is installed for another Python would only mislead
        findings += examine()
    broken = [finding.part for finding in findings if finding.state == "broken"]
    try:
        show_all(findings)
        print(
            f"\ntraining can't work here yet: {', '.join(broken)}" if broken else "\ntraining can work here", flush=True
        )
    except BrokenPipeError:  # nobody reads on, as after `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if broken else 0


def examine() -> list[Finding]:
    """Everything but Python itself."""
    with ThreadPoolExecutor(max_workers=len(ISOLATED)) as pool:
        running = [pool.submit(isolate, *probe) for probe in ISOLATED]
        findings = [project.packages(), *(each.result() for each in running)]
    return [*findings, project.disk(), project.starter(), project.data(), project.adapters()]


def show_all(findings: Sequence[Finding]) -> None:
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        show(f"{MARKS[finding.state]}  {finding.part:<{width}}  ", finding.detail)
        if finding.fix:
            show(f"      {'':<{width}}  -> ", finding.fix)


def show(head: str, text: str) -> None:
    """Prints `text` after `head`, as a column as wide as the terminal, or in one line where there is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        print(head + text)
        return
    columns = max(shutil.get_terminal_size().columns, len(head) + 20)
    print(
        textwrap.fill(
            text,
            columns,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def isolate(name: str, part: str, timeout_s: float, when_it_fails: State) -> Finding:
    """Runs a probe in a process of its own; its last line of output is the finding."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "utils.doctor.probes", name],
            cwd=project.ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(part, when_it_fails, f"no answer in {timeout_s:.0f} s", "try again when the machine is idle")
    try:
        return Finding(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ModuleNotFoundError: ")[:160]
        reason = f"its process died of signal {-done.returncode}" if done.returncode < 0 else last
        return Finding(part, when_it_fails, f"does not work: {reason}", project.repair(name))


if __name__ == "__main__":
    sys.exit(main())
