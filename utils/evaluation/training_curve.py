"""The losses of the training, out of the metrics.jsonl that a train script left beside its adapter."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

METRICS = "metrics.jsonl"
NOTICEABLE_NATS = 0.02  # less than this between two evaluations is no trend

Points = tuple[tuple[int, float], ...]  # (optimizer step, loss in nats per token)


@dataclass(frozen=True)
class TrainingCurve:
    """Loss by optimizer step, on the training batches and on the validation records; either can be empty."""

    training: Points
    validation: Points

    @property
    def rose_again(self) -> bool:
        """The validation loss ended above its lowest."""
        losses = [loss for _, loss in self.validation]
        return len(losses) > 1 and losses[-1] > min(losses) + NOTICEABLE_NATS

    @property
    def still_falling(self) -> bool:
        """The validation loss fell until the end."""
        losses = [loss for _, loss in self.validation]
        return len(losses) > 1 and losses[-1] < losses[-2] - NOTICEABLE_NATS


def read(folder: Path) -> TrainingCurve | None:
    """The curve of the run that made `folder`, None where there is none. Rows that say nothing are passed over."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    training: dict[int, float] = {}
    validation: dict[int, float] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            continue
        for name, points in (("loss", training), ("eval_loss", validation)):
            loss = row.get(name)
            if isinstance(loss, int | float) and math.isfinite(loss):
                points[row["step"]] = float(loss)
    if not training and not validation:
        return None
    return TrainingCurve(tuple(sorted(training.items())), tuple(sorted(validation.items())))
