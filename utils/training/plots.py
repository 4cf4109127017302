"""training.png: loss, perplexity, gradient norm and memory over the steps."""

from __future__ import annotations

import json
from pathlib import Path


def plot(metrics: Path, image: Path) -> None:
    """Draws `metrics.jsonl`. Steps on every x axis; perplexity on a log axis, the base model's at step 0."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, title, names in (
        (panels[0, 0], "loss (nats per supervised token)", {"loss": "training", "eval_loss": "validation"}),
        (panels[0, 1], "validation perplexity", {"eval_perplexity": None}),
        (panels[1, 0], "gradient norm before clipping", {"grad_norm": None}),
        (panels[1, 1], "peak memory (MiB)", {"peak_memory_mib": None}),
    ):
        for name, label in names.items():
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True) if points else ([], []), marker="o", markersize=3, label=label)
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(names) > 1:
            axes.legend(frameon=False)
    panels[0, 1].set_yscale("log")
    panels[0, 1].yaxis.set_major_formatter("{x:.0f}")
    panels[0, 1].yaxis.set_minor_formatter("{x:.0f}")
    panels[1, 1].set_ylim(0, 1.1 * panels[1, 1].get_ylim()[1])
    for axes in panels[1]:
        axes.set_xlabel("optimizer step")
    figure.savefig(image, dpi=120)
