"""What every model card says, whichever stage writes it: results, where the data went, who should have agreed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def results_table(results: Mapping[str, Any]) -> str:
    names = [name if " " in name else name.replace("_", " ") for name in results]
    rows = "\n".join(f"| {name} | {_shown(value)} |" for name, value in zip(names, results.values(), strict=True))
    return f"| | |\n|---|---|\n{rows}"


def data_and_use(data_sha256: str) -> str:
    """The sections about use and data. `data_sha256` identifies the training records and holds none of their text."""
    return f"""## Intended use

Chatting with a likeness of one person, among people who know that it is one, where that person agreed. Not for
impersonation, not for decisions about anybody, and not for any use that its persona would not agree to. What it says
is made up, also where it sounds like the person.

## Data

Training data: sha256 `{data_sha256}`. No message text is stored here, but a model can repeat what it was trained on.
The people in the data should have agreed to this use; who publishes this model should have asked them about that, too.
"""


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
