"""Runs a chat template that somebody else wrote once, in a process of its own, where it can be ended.

jinja's sandbox keeps a template from files and from code, and a range from more than 100,000 steps. It allows loops in
loops, powers of powers and text that doubles, so a template may run for years or take all the memory there is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from utils import prompts
from utils.console import UserError

PATIENCE_S = 60  # the imports take a second, and ten on a busy machine
MEMORY_BYTES = 4 << 30
LONGEST_CHARACTERS = 200_000  # for a chat of less than 400; the longest of well-known templates add a few thousand
TOO_LONG, TOO_LARGE = 3, 4  # exit codes

_CHAT = [
    {"role": "system", "content": "You are Ann."},
    *(
        message
        for number in range(10)
        for message in (
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        )
    ),
]


@lru_cache(maxsize=8)
def check(template: str, special_tokens: tuple[tuple[str, str], ...], name: str) -> None:
    """`special_tokens` are what the template may ask for by name; `name` is the model's, for the error.

    Raises UserError for a template that does not end, takes too much memory, or writes far more than it was given. What
    else goes wrong in it shows where it is used.
    """
    if template == prompts.CHATML_TEMPLATE:
        return
    task = json.dumps([template, dict(special_tokens)])
    command = [sys.executable, "-c", f"from {__name__} import run; run()"]
    try:
        root = Path(__file__).resolve().parents[2]
        code = subprocess.run(
            command, input=task.encode(), cwd=root, capture_output=True, timeout=PATIENCE_S, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        raise _refused(name, f"does not end within {PATIENCE_S} s") from None
    if code == TOO_LONG:
        raise _refused(name, f"makes more than {LONGEST_CHARACTERS:,} characters")
    if code != 0:
        raise _refused(name, f"takes more than {MEMORY_BYTES >> 30} GiB of memory" if code == TOO_LARGE else "fails")


def _refused(name: str, what: str) -> UserError:
    return UserError(
        f"the chat template of {name} {what} on a short chat: it is broken, or made to do harm; don't use it"
    )


def run() -> None:
    """What the other process does: renders the template of the task that it is given, and says how that went by its
    exit code."""
    template, special_tokens = json.load(sys.stdin)
    from transformers.utils.chat_template_utils import render_jinja_template

    _limit_memory()
    try:
        rendered = render_jinja_template([_CHAT], chat_template=template, add_generation_prompt=True, **special_tokens)
        sys.exit(TOO_LONG if len(str(rendered)) > LONGEST_CHARACTERS else 0)
    except MemoryError:
        sys.exit(TOO_LARGE)
    except Exception:  # the template's own, which the caller meets again and puts in words
        sys.exit(0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
