"""What an evaluation found: the shapes that the measuring modules hand to the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.training_curve import TrainingCurve
from utils.records import Record

Better = Literal["lower", "higher"]
Verdict = Literal["helped", "hurt", "no evidence", "too little to tell", "no base to compare with"]


@dataclass(frozen=True)
class Interval:
    """A 95% interval of tuned minus base."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """One metric of base and tuned model on the same held-out conversations.

    `base` is None when there is no base model, `interval` when there is nothing to draw it from. `better` says which
    direction is good, None for a metric that has no good direction. `meaning` is one line for a newcomer.
    """

    metric: str
    tuned: float
    base: float | None = None
    interval: Interval | None = None
    better: Better | None = None
    meaning: str = ""

    @property
    def difference(self) -> float | None:
        return None if self.base is None else self.tuned - self.base


@dataclass(frozen=True)
class Check:
    """One thing that must hold, in words, and whether it does."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Reply:
    """`text` without control tokens; `tokens` includes the end-of-turn token; `ended` says that there was one before
    the length limit; `seconds` is the wall time, `first_token_seconds` the part of it before the first token."""

    text: str
    tokens: int
    ended: bool
    seconds: float
    first_token_seconds: float = 0.0


@dataclass(frozen=True)
class Answered:
    """A held-out prompt with the true reply, the base's (None without a base model) and the tuned model's."""

    record: Record
    base: Reply | None
    tuned: Reply


@dataclass(frozen=True)
class Leak:
    """A training reply that the tuned model completes from its prompt. `record_id` is CONVERSATION#TURN."""

    record_id: str
    record: Record
    reason: str


@dataclass(frozen=True)
class Memorization:
    """What an adapter gives away of its training replies; definitions in docs of `memorization.py`.

    Shares are of replies of ten tokens or more. `comparisons` holds the figures for the report, `leaks` the worst
    cases, `warnings` one line each for what a person should know; without warnings nothing was found.
    """

    comparisons: tuple[Comparison, ...]
    leaks: tuple[Leak, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that one evaluation found: what the terminal, evaluation.html and evaluation.json say.

    `replies`, `conversations` and `tokens` count what was scored. `unchecked` holds one line for each thing that was
    left out or could not be known. `tokens_per_s` and `first_token_s` are those of a chat, one reply at a time.
    """

    subject: str
    base_name: str | None
    verdict: Verdict
    replies: int
    conversations: int
    tokens: int
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...]
    memorization: Memorization | None
    answered: tuple[Answered, ...]
    curve: TrainingCurve | None
    unchecked: tuple[str, ...]
    tokens_per_s: float
    first_token_s: float
    seconds: float
    settings: EvaluationSettings

    @property
    def passed(self) -> bool:
        """What the exit code says. Without enough evidence for a verdict nothing has failed."""
        return self.verdict != "hurt" and all(check.passed for check in self.checks)
