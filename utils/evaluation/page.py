"""evaluation.html: the verdict and what stands behind it, as one file that loads nothing and runs nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from utils.evaluation import advice, plots, report, side_by_side
from utils.evaluation.results import Comparison, Evaluation, Leak

STYLE = Path(__file__).with_suffix(".css")
LEAKS_SHOWN = 20

_shown = html.escape


def render(evaluation: Evaluation) -> bytes:
    """The page. Whatever comes out of a chat or a model is escaped, and the page's own policy forbids scripts and the
    network. It holds the text of held-out conversations; that of leaks alone when the settings ask for it."""
    body = [
        f'<h1 class="{_mood(evaluation)}">{_shown(report.sentence(evaluation))}</h1>',
        f'<p class="soft">{_shown(report.measured_on(evaluation))}</p>',
        *(f'<p class="warning">{_shown(warning)}</p>' for warning in report.warnings(evaluation)),
        _facts(evaluation),
        '<div class="grid">',
        _card(_figures_title(evaluation), _figures(evaluation.comparisons, _plot_note(evaluation)), wide=True),
        _card("How to go on", _list(advice.how_to_go_on(evaluation))),
        _card("Checks", _checks(evaluation)),
        _card("Does it repeat its training data?", _leaks(evaluation)),
        _card("Loss in training", _curve(evaluation)),
        _card("Held-out conversations", side_by_side.render(evaluation.answered), wide=True),
        _card("What was not checked", _unchecked(evaluation)),
        _card("Settings", _settings(evaluation)),
        "</div>",
        '<p class="soft foot">This page holds message text: keep it to yourself, and take it out of the folder before'
        " you give the folder away. evaluation.json holds none.</p>",
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>Evaluation of {_shown(evaluation.subject)}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>"
    )
    return "\n".join([head, "<body><main>", *body, "</main></body></html>\n"]).encode("utf-8", "replace")


def _card(title: str, inside: str, *, wide: bool = False) -> str:
    return f'<section class="card{" wide" if wide else ""}"><h2>{_shown(title)}</h2>{inside}</section>'


def _mood(evaluation: Evaluation) -> str:
    if not evaluation.passed:
        return "bad"
    return "good" if evaluation.verdict == "helped" else "open"


def _facts(evaluation: Evaluation) -> str:
    perplexity = report.find(evaluation.comparisons, "perplexity")
    passed = sum(check.passed for check in evaluation.checks)
    facts = [("checks passed", f"{passed} of {len(evaluation.checks)}", "what must hold")]
    if perplexity is not None:
        before = f"{report.figure(perplexity.base)} without the training" if perplexity.base is not None else ""
        facts.insert(0, ("perplexity", report.figure(perplexity.tuned), before))
    if evaluation.memorization is not None:
        facts.append(("leaks", f"{len(evaluation.memorization.leaks)}", "training replies repeated"))
    facts += [
        ("held-out replies", f"{evaluation.replies:,}", f"{evaluation.conversations:,} conversations"),
        ("speed", f"{evaluation.tokens_per_s:.1f}", "tokens/s, one reply at a time"),
        ("first token", f"{evaluation.first_token_s:.2f} s", "after the message"),
    ]
    return f'<div class="facts">{"".join(_fact(*fact) for fact in facts)}</div>'


def _fact(label: str, value: str, note: str) -> str:
    return f'<div class="fact">{_shown(label)}<b>{_shown(value)}</b><span class="soft">{_shown(note)}</span></div>'


# Figures -------------------------------------------------------------------------------------------------------------


def _figures_title(evaluation: Evaluation) -> str:
    return "Base against tuned" if evaluation.base_name else "Figures"


def _plot_note(evaluation: Evaluation) -> str:
    if not evaluation.base_name:
        return "There is no base model to compare with: name one with --base-model."
    return (
        "Differences are tuned minus base. The bar is their 95% interval over conversations, each on a scale of its"
        " own; right of the line is better. A bar that touches the line says nothing."
    )


def _figures(comparisons: Sequence[Comparison], note: str) -> str:
    if not comparisons:
        return f'<p class="soft">{_shown(note)}</p>'
    if all(each.base is None for each in comparisons):
        head = '<tr><th scope="col"></th><th scope="col" class="n">value</th></tr>'
    else:
        head = (
            '<tr><th scope="col"></th><th scope="col" class="n">base</th><th scope="col" class="n">tuned</th>'
            '<th scope="col" class="n">difference</th>'
            '<th scope="col" class="ends"><span>worse</span><span>better</span></th></tr>'
        )
    rows = "".join(_figure(each, compared="base" in head) for each in comparisons)
    note = f'<p class="soft">{_shown(note)}</p>' if note else ""
    return f'{note}<table class="figures"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _figure(comparison: Comparison, *, compared: bool) -> str:
    name = f'<th scope="row">{_shown(comparison.metric)}<span class="soft">{_shown(comparison.meaning)}</span></th>'
    tuned = f'<td class="n" data-of="tuned">{report.figure(comparison.tuned)}</td>'
    if not compared:
        return f"<tr>{name}{tuned}</tr>"
    found = comparison.interval
    between = f'<span class="soft">{report.signed(found.low)} to {report.signed(found.high)}</span>' if found else ""
    return (
        f'<tr class="{plots.judged(comparison)}">{name}'
        f'<td class="n" data-of="base">{report.figure(comparison.base)}</td>{tuned}'
        f'<td class="n delta" data-of="difference">{report.signed(comparison.difference)}{between}</td>'
        f'<td class="plot">{plots.interval(comparison)}</td></tr>'
    )


# Findings ------------------------------------------------------------------------------------------------------------


def _checks(evaluation: Evaluation) -> str:
    rows = "".join(
        f'<li class="{"good" if check.passed else "bad"}"><b>{"ok" if check.passed else "failed"}</b> '
        f"{_shown(check.name)}{_detail(check.detail)}</li>"
        for check in evaluation.checks
    )
    return f'<ul class="checks">{rows}</ul>'


def _detail(detail: str) -> str:
    return f'<span class="soft">{_shown(detail)}</span>' if detail else ""


def _leaks(evaluation: Evaluation) -> str:
    found = evaluation.memorization
    if found is None:
        return '<p class="soft">This was not tested; see what was not checked.</p>'
    summary = (
        "".join(f"<p>{_shown(warning)}</p>" for warning in found.warnings)
        or "<p>Nothing was found that it repeats more than it should.</p>"
    )
    texts = evaluation.settings.show_text
    rows = "".join(_leak(leak, with_text=texts) for leak in found.leaks[:LEAKS_SHOWN])
    more = len(found.leaks) - LEAKS_SHOWN
    listed = f'<ul class="leaks">{rows}</ul>' if rows else ""
    if more > 0:
        listed += f'<p class="soft">and {more:,} others, in evaluation.json</p>'
    if found.leaks and not texts:
        listed += '<p class="soft">--show-text shows what they say.</p>'
    return summary + listed + _figures(found.comparisons, "")


def _leak(leak: Leak, *, with_text: bool) -> str:
    text = f'<div class="turn own">{_shown(leak.record.output)}</div>' if with_text else ""
    return f'<li><code>{_shown(leak.record_id)}</code> <span class="soft">{_shown(leak.reason)}</span>{text}</li>'


def _curve(evaluation: Evaluation) -> str:
    curve = evaluation.curve
    if curve is None:
        return '<p class="soft">There is no metrics.jsonl beside the model, so how it was trained is not known.</p>'
    colours = [("training", "var(--train)")] * bool(curve.training)
    colours += [("validation", "var(--validation)")] * bool(curve.validation)
    note = '<p class="soft">Nats per token, by optimizer step; lower is better.</p>'
    return note + plots.legend(colours) + plots.loss_curve(curve)


def _unchecked(evaluation: Evaluation) -> str:
    return _list(evaluation.unchecked) if evaluation.unchecked else '<p class="soft">Everything was.</p>'


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="plain">{"".join(f"<li>{_shown(line)}</li>" for line in lines)}</ul>'


def _settings(evaluation: Evaluation) -> str:
    lines = "\n".join(f"{name} = {value!r}" for name, value in report.settings_shown(evaluation.settings).items())
    return f"<details><summary>as they were resolved</summary><code>{_shown(lines)}</code></details>"
