"""Bars in plain HTML and CSS: they fit any width without a script."""

from __future__ import annotations

import html
from collections.abc import Sequence

Bar = tuple[str, Sequence[tuple[int, str]]]  # what it says when pointed at, and its parts from the top: (count, colour)

LABELS_SHOWN = 6


def legend(entries: Sequence[tuple[str, str]]) -> str:
    spans = (f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, colour in entries)
    return f'<div class="legend">{"".join(spans)}</div>'


def timeline(months: Sequence[str], bars: Sequence[Bar]) -> str:
    """One bar a month ("2024-05"), labelled by its years, or by its months where there are few."""
    ticks = (
        [index for index, month in enumerate(months) if month.endswith("-01")]
        if len(months) > 24
        else range(len(months))
    )
    step = -(-len(ticks) // LABELS_SHOWN) or 1
    shown = [month[:4] if len(months) > 24 else month for month in months]
    labels = "".join(
        f'<span style="left:{100 * index / len(months):.2f}%">{shown[index]}</span>' for index in list(ticks)[::step]
    )
    kind = "chart dense" if len(months) > 60 else "chart"
    return f'{_bars(bars, kind)}<div class="labels" aria-hidden="true">{labels}</div>'


def histogram(labels: Sequence[str], counts: Sequence[int], unit: str, what: str) -> str:
    bars = [
        (f"{label} {unit}: {count:,} {what}", [(count, "var(--accent)")])
        for label, count in zip(labels, counts, strict=True)
    ]
    bins = "".join(f"<span>{html.escape(label)}</span>" for label in labels)
    return f'{_bars(bars, "chart gaps")}<div class="bins" aria-hidden="true">{bins}</div>'


def _bars(bars: Sequence[Bar], kind: str) -> str:
    highest = max((sum(count for count, _ in parts) for _, parts in bars), default=0) or 1
    columns = "".join(
        f'<div title="{html.escape(title)}">'
        + "".join(
            f'<i style="height:{max(100 * count / highest, 0.7):.2f}%;background:{colour}"></i>'
            for count, colour in parts
            if count
        )
        + "</div>"
        for title, parts in bars
    )
    label = f'role="img" aria-label="bars, the highest {highest:,}"'
    return f'<div class="{kind}" {label}><em class="top">{highest:,}</em>{columns}</div>'


def table(rows: Sequence[tuple[str, str, int]]) -> str:
    """Rows of (kind, label, count), each with a bar as long as its share of the largest count."""
    largest = max((count for _, _, count in rows), default=0) or 1
    lines = "".join(
        f'<tr class="{kind}"><th scope="row">{html.escape(label)}</th><td class="n">{count:,}</td>'
        f'<td><i style="width:{100 * count / largest:.2f}%"></i></td></tr>'
        for kind, label, count in rows
    )
    return f'<table class="rows">{lines}</table>'
