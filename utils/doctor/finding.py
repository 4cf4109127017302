"""What a probe of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["fine", "optional", "broken"]


@dataclass(frozen=True)
class Finding:
    """Training can't work with one that is broken; `fix` says what to do about it, in words or as a command."""

    part: str
    state: State
    detail: str
    fix: str = ""
