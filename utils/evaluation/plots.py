"""Plots as inline SVG. Lines stretch with the page and keep their width; words stand beside them in HTML, so that they
stay legible on a phone."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from utils.evaluation.results import Comparison
from utils.evaluation.training_curve import Points, TrainingCurve

HALF = 100  # an interval plot reaches from -HALF to HALF
WIDTH, HEIGHT = 600, 200  # of the plane that a curve is drawn in
TICKS = 4


def interval(comparison: Comparison) -> str:
    """Tuned minus base with its 95% interval, on a scale of its own whose middle is 0; better is right.

    Empty where there is no finite difference to draw, and for a metric without a good direction.
    """
    if comparison.difference is None or comparison.better is None:
        return ""
    sign = -1 if comparison.better == "lower" else 1
    found = comparison.interval
    ends = (comparison.difference,) if found is None else (comparison.difference, found.low, found.high)
    if not all(map(math.isfinite, ends)):
        return ""
    reach = max(map(abs, ends)) or 1.0
    low, high = sorted(sign * HALF * 0.9 * end / reach for end in (ends[-2:] if found else ends * 2))
    middle = sign * HALF * 0.9 * comparison.difference / reach
    label = f"difference {comparison.difference:+.4g}"
    if found is not None:
        label += f", 95% interval {found.low:+.4g} to {found.high:+.4g}"
    return (
        f'<svg class="interval {judged(comparison)}" viewBox="{-HALF} 0 {2 * HALF} 20" preserveAspectRatio="none"'
        f' role="img" aria-label="{html.escape(label)}"><title>{html.escape(label)}</title>'
        '<path class="zero" d="M0 1V19"/>'
        f'<path class="span" d="M{low:.1f} 10H{high:.1f}"/><path class="point" d="M{middle:.1f} 10h0"/></svg>'
    )


def judged(comparison: Comparison) -> str:
    """ "good", "bad" or "open": what the interval allows to say about a metric's difference."""
    found = comparison.interval
    if comparison.better is None or found is None or not found.excludes_zero:
        return "open"
    return "good" if (found.low > 0) == (comparison.better == "higher") else "bad"


def loss_curve(curve: TrainingCurve) -> str:
    """Training and validation loss by optimizer step."""
    points = curve.training + curve.validation
    last_step = max(step for step, _ in points) or 1
    lowest, highest = min(loss for _, loss in points), max(loss for _, loss in points)
    margin = (highest - lowest) * 0.06 or 0.5
    lowest, highest = lowest - margin, highest + margin

    def place(step: int, loss: float) -> tuple[float, float]:
        return WIDTH * step / last_step, HEIGHT * (highest - loss) / (highest - lowest)

    levels = [lowest + (highest - lowest) * (number + 0.5) / TICKS for number in range(TICKS)]
    grid = "".join(f'<path class="grid" d="M0 {place(0, level)[1]:.1f}H{WIDTH}"/>' for level in levels)
    marks = "".join(
        f'<span style="top:{100 * place(0, level)[1] / HEIGHT:.1f}%">{level:.2f}</span>' for level in levels
    )
    lines = "".join(
        _line(name, [place(*point) for point in found])
        for name, found in (("train", curve.training), ("validation", curve.validation))
        if found
    )
    return (
        f'<div class="curve"><div class="levels" aria-hidden="true">{marks}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{_spoken(curve)}">'
        f"{grid}{lines}</svg></div>"
        f'<div class="steps" aria-hidden="true"><span>step 0</span><span>{last_step:,}</span></div>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Names and the colours that stand for them."""
    spans = (f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, colour in entries)
    return f'<div class="legend">{"".join(spans)}</div>'


def _line(name: str, places: Sequence[tuple[float, float]]) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    return f'<path class="line {name}" d="M{path}"/><path class="dots {name}" d="{dots}"/>'


def _spoken(curve: TrainingCurve) -> str:
    return "; ".join(
        f"{name} loss from {found[0][1]:.2f} at step {found[0][0]} to {found[-1][1]:.2f} at step {found[-1][0]}"
        for name, found in _named(curve)
    )


def _named(curve: TrainingCurve) -> list[tuple[str, Points]]:
    return [(name, found) for name, found in (("training", curve.training), ("validation", curve.validation)) if found]
