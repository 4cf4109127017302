"""How fast the prepare stage is, and how much memory it takes, against reading the same JSON and doing nothing with it.

    python benchmarks/prepare.py --source FOLDER --persona NAME                  # json.load, msgspec, the whole stage
    python benchmarks/prepare.py --source FOLDER --persona NAME --scale 10       # and ten times the input
    python benchmarks/prepare.py --source FOLDER --persona NAME --big-file 2048  # and one file of so many MiB

Everything runs on the same machine in turns: json, msgspec, stage, json, msgspec, stage, ... each in a process of its
own, so that what disturbs one disturbs all. To look at the memory of two processes slows them down, so that is done in
runs of its own, which are not timed. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
ID_STEP = 1 << 52  # added to the ids of each copy of the source: later than every id before it
TIME_STEP_YEARS = 20

READERS = {
    "json.load": "import json, sys\nfor path in sys.argv[1:]:\n    json.load(open(path, 'rb'))",
    "msgspec": "import msgspec, sys\nfor path in sys.argv[1:]:\n    msgspec.json.decode(open(path, 'rb').read())",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="a folder of DiscordChatExporter's JSON files")
    parser.add_argument("--persona", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=int, default=0, help="also so many times the input, invented from the source")
    parser.add_argument("--big-file", type=int, default=0, help="also one generated file of so many MiB")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    figures: dict[str, object] = {"python": sys.version.split()[0], "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        whole = figures["source"] = compare(options.source, options.persona, options.repeats, folder)
        if options.scale:
            many = generate_copies(options.source, folder / "scaled", options.scale)
            grown = figures["scaled"] = compare(many, options.persona, 1, folder)
            growth = grown["stage"]["wall_s"]["median"] / whole["stage"]["wall_s"]["median"]
            size = grown["megabytes"] / whole["megabytes"]
            figures["growth"] = {"input": size, "wall": growth}
            print(f"{size:.2f} times the input took {growth:.2f} times as long")
        if options.big_file:
            big = generate_file(options.source, folder / "big.json", options.big_file << 20)
            run = stage(big, options.persona, folder / "big", watch=True)
            figures["big_file"] = run
            megabytes = big.stat().st_size / MEGABYTE
            print(
                f"one file of {megabytes:,.0f} MB: {run['wall_s']:.1f} s wall, {run['cpu_s']:.1f} s cpu, "
                f"{run['peak_mb']:.0f} MB peak, {megabytes / run['wall_s']:.0f} MB/s"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def compare(source: Path, persona: str, repeats: int, folder: Path) -> dict:
    """Runs the readers and the stage in turns and prints a line each; times in seconds, as ratios to json.load."""
    files = sorted(map(str, source.rglob("*.json")))
    megabytes = sum(Path(path).stat().st_size for path in files) / MEGABYTE
    runs: dict[str, list[dict]] = {"json.load": [], "msgspec": [], "stage": [], "stage again": []}
    for turn in range(repeats):
        for name, code in READERS.items():
            runs[name].append(measure([sys.executable, "-c", code, *files]))
        out = folder / f"out{turn}-{len(files)}"
        runs["stage"].append(stage(source, persona, out))
        runs["stage again"].append(stage(source, persona, out))  # nothing has changed, so nothing is read again
    watched = [stage(source, persona, folder / f"watched-{len(files)}", watch=True) for _ in range(2)]
    messages = json.loads((out / "report.json").read_text(encoding="utf-8"))["read"]["messages"]
    print(f"{len(files)} files, {megabytes:,.0f} MB, {messages:,} messages")
    result: dict = {"files": len(files), "megabytes": megabytes, "messages": messages}
    for name, measured in runs.items():
        figures = {key: spread([run[key] for run in measured]) for key in measured[0]}
        if name.startswith("stage"):
            figures["peak_mb"] = spread([watched[name == "stage again"]["peak_mb"]])
        for key in ("wall_s", "cpu_s"):
            ratios = [run[key] / base[key] for run, base in zip(measured, runs["json.load"], strict=True)]
            figures[f"{key}_over_json"] = spread(ratios)
        result[name] = figures
        wall, ratio = figures["wall_s"], figures["wall_s_over_json"]
        print(
            f"{name:<12} wall {shown(wall)} s, cpu {shown(figures['cpu_s'])} s, "
            f"{megabytes / wall['median']:6.1f} MB/s, {messages / wall['median']:9,.0f} messages/s, "
            f"{figures['peak_mb']['max']:4.0f} MB peak, "
            f"wall/json {shown(ratio)}, cpu/json {shown(figures['cpu_s_over_json'])}"
        )
    return result


def stage(source: Path, persona: str, out: Path, *, watch: bool = False) -> dict[str, float]:
    script = [sys.executable, str(ROOT / "prepare_training_data.py")]
    return measure([*script, "--source", str(source), "--persona", persona, "--output-dir", str(out)], watch=watch)


def measure(command: list[str], *, watch: bool = False) -> dict[str, float]:
    """Seconds of wall and processor time of a process and those that it started, and the most memory in MB that one of
    them had; watched, the most that they had together, what they share counted once."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    sizes: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while watch and not ended.wait(0.05):
            sizes.append(resident_bytes(process.pid))

    watching = threading.Thread(target=look)
    watching.start()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    ended.set()
    watching.join()
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command[:6])} failed:\n{errors.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": max(usage.ru_maxrss * unit, *sizes, 0) / MEGABYTE,
    }


def resident_bytes(pid: int) -> int:
    """Of the process and its children (each page's share of those that map it), on Linux; else 0."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in (pid, *children)]
    except OSError:
        return 0
    return sum(1024 * int(re.search(r"^Pss:\s+(\d+) kB", one, re.MULTILINE)[1]) for one in found if one)


def spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['min']:.2f} to {figures['max']:.2f})"


# Invented input ------------------------------------------------------------------------------------------------------


def shifted(document: dict, copy: int) -> dict:
    """The same messages with later ids and times; the people stay the same."""
    if copy == 0:
        return document

    def later(number: str) -> str:
        return str(int(number) + copy * ID_STEP)

    for message in document["messages"]:
        message["id"] = later(message["id"])
        stamp = message["timestamp"]
        message["timestamp"] = f"{int(stamp[:4]) + TIME_STEP_YEARS * copy}{stamp[4:]}".replace("-02-29", "-02-28")
        if "reference" in message and message["reference"].get("messageId"):
            message["reference"]["messageId"] = later(message["reference"]["messageId"])
    return document


def documents(source: Path) -> Iterator[dict]:
    for path in sorted(source.rglob("*.json")):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "channel" in document and "messages" in document:
            yield document


def generate_copies(source: Path, folder: Path, copies: int) -> Path:
    folder.mkdir()
    for copy in range(copies):
        for number, document in enumerate(documents(source)):
            path = folder / f"copy {copy:03} [part {number}].json"
            path.write_text(json.dumps(shifted(document, copy), ensure_ascii=False), encoding="utf-8")
    return folder


def generate_file(source: Path, path: Path, size: int) -> Path:
    """One export of `size` bytes or little more, its messages in order."""
    first = next(documents(source))
    header = {key: value for key, value in first.items() if key not in ("messages", "messageCount")}
    written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(header, ensure_ascii=False)[:-1] + ', "messages": [')
        for copy in count():
            for document in documents(source):
                for message in shifted(document, copy)["messages"]:
                    file.write((", " if written else "") + json.dumps(message, ensure_ascii=False))
                    written += 1
                if file.tell() >= size:
                    file.write(f'], "messageCount": {written}}}')
                    return path
    return path


if __name__ == "__main__":
    main()
