"""report.html: what a run read, dropped and kept, as one file that loads nothing and runs nothing."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.chatlogs.quality.split import Split
from utils.chatlogs.reporting import charts, samples
from utils.chatlogs.reporting.activity import FIRST_DATE_MS, Months, months_between
from utils.chatlogs.reporting.report import REASONS

STYLE = Path(__file__).with_suffix(".css")
CHARACTERS_A_TOKEN = 3.7  # of chat under TinyLlama's and SmolLM2's tokenizers: 3.66 to 3.96, counted on two servers
LENGTH_BINS_TOKENS = (1, 3, 5, 9, 17, 33, 65, 129, 257)  # where each bin starts
PARTNERS_SHOWN = 12
SET_COLOURS = {name: f"var(--{name})" for name in ("train", "validation", "test")}

_shown = html.escape


def render(report: Mapping[str, Any], months: Months, split: Split) -> bytes:
    """The page. Whatever comes out of a chat is escaped, and the page's own policy forbids scripts and the network."""
    name = report["persona"]["name"]
    body = [
        f"<h1>{_shown(name)}: {report['replies']['records']:,} training records</h1>",
        f'<p class="soft">{_read(report)}</p>',
        *(f'<p class="warning">{_shown(warning)}</p>' for warning in report["warnings"]),
        _facts(report),
        '<div class="grid">',
        _card("Messages a month", _months(months, name), wide=True),
        _card("Reply lengths", _lengths(split)),
        _card(f"Who {name} answers", _partners(split)),
        _card("What was kept, and what was dropped", _funnel(report), wide=True),
        _card("Sets over time", _sets(split), wide=True),
        _card("Masked", _masked(report["masked"])),
        _card("Settings", _settings(report["settings"])),
        _card("Sample records", samples.render(split.train, name), wide=True),
        "</div>",
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>Training records of {_shown(name)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
    )
    return "\n".join([head, "<body><main>", *body, "</main></body></html>\n"]).encode("utf-8", "replace")


def _card(title: str, inside: str, *, wide: bool = False) -> str:
    return f'<section class="card{" wide" if wide else ""}"><h2>{_shown(title)}</h2>{inside}</section>'


def _read(report: Mapping[str, Any]) -> str:
    read = report["read"]
    span = f", {read['first'][:10]} to {read['last'][:10]}" if read["first"] else ""
    counts = ((read["messages"], "message"), (read["channels"], "channel"), (read["files"], "file"))
    messages, channels, files = (f"{count:,} {noun}{'s' * (count != 1)}" for count, noun in counts)
    return f"From {messages} in {channels} and {files}{span}."


def _facts(report: Mapping[str, Any]) -> str:
    rows = [
        (name, entry["records"], f"{entry['conversations']:,} conversations") for name, entry in report["sets"].items()
    ]
    rows += [
        ("own messages", report["persona_messages"]["total"], "written by the persona"),
        ("values masked", sum(report["masked"].values()), "secrets and personal data"),
    ]
    facts = (
        f'<div class="fact">{_shown(label)}<b>{n:,}</b><span class="soft">{note}</span></div>'
        for label, n, note in rows
    )
    return f'<div class="facts">{"".join(facts)}</div>'


def _months(months: Months, name: str) -> str:
    if not months:
        return '<p class="soft">The messages carry no dates.</p>'
    own_colour, other_colour = "var(--accent)", "var(--bar)"
    bars = [
        (f"{month}: {everybody:,} messages, {own:,} by {name}", [(everybody - own, other_colour), (own, own_colour)])
        for month, (everybody, own) in months.items()
    ]
    chart = charts.legend([(name, own_colour), ("everybody else", other_colour)]) + charts.timeline(list(months), bars)
    if 8 * max(own for _, own in months.values()) > max(everybody for everybody, _ in months.values()):
        return chart
    own_bars = [(f"{month}: {own:,} by {name}", [(own, own_colour)]) for month, (_, own) in months.items()]
    return f'{chart}<p class="soft">{_shown(name)} alone</p>{charts.timeline(list(months), own_bars)}'


def _lengths(split: Split) -> str:
    tokens = [
        max(1, round(len(reply.record.output) / CHARACTERS_A_TOKEN))
        for replies in split.sets.values()
        for reply in replies
    ]
    starts = LENGTH_BINS_TOKENS
    ends = [start - 1 for start in starts[1:]]
    counts = [sum(start <= count <= end for count in tokens) for start, end in zip(starts, [*ends, 10**9], strict=True)]
    labels = [f"≤{end}" for end in ends] + [f">{ends[-1]}"]
    middle = sorted(tokens)[len(tokens) // 2]
    note = (
        f'<p class="soft">Tokens, estimated as characters ÷ {CHARACTERS_A_TOKEN}; half of the replies have {middle} or'
        " fewer.</p>"
    )
    return note + charts.histogram(labels, counts, "tokens", "replies")


def _partners(split: Split) -> str:
    partners = Counter(reply.partner for replies in split.sets.values() for reply in replies if reply.partner)
    if not partners:
        return '<p class="soft">The records don\'t say.</p>'
    others = len(partners) - PARTNERS_SHOWN
    top = sorted(partners.items(), key=lambda item: (-item[1], item[0]))[:PARTNERS_SHOWN]
    rows = [("", partner, count) for partner, count in top]
    more = f'<p class="soft">and {others:,} others</p>' if others > 0 else ""
    return '<p class="soft">Records, by the person answered.</p>' + charts.table(rows) + more


def _funnel(report: Mapping[str, Any]) -> str:
    name, own, replies = report["persona"]["name"], report["persona_messages"], report["replies"]
    everybody = [
        ("stage", "messages read", report["read"]["messages"]),
        *(("drop", _reason(reason), count) for reason, count in report["messages"].items() if reason != "chat"),
    ]
    persona = [
        ("stage", f"messages of {name}", own["total"]),
        *(("drop", _reason(reason), count) for reason, count in own["left_out"].items()),
        ("stage", f"replies of {name} (a burst is one)", replies["total"]),
        *(("drop", _reason(reason), count) for reason, count in replies["left_out"].items()),
        ("stage", "records", replies["records"]),
    ]
    return charts.table(everybody) + charts.table(persona)


def _reason(reason: str) -> str:
    return REASONS.get(reason, reason.replace("_", " "))


def _sets(split: Split) -> str:
    written = {
        name: Counter(
            datetime.fromtimestamp(reply.unix_ms / 1000, UTC).strftime("%Y-%m")
            for reply in replies
            if reply.unix_ms >= FIRST_DATE_MS
        )
        for name, replies in split.sets.items()
    }
    dated = sorted(set().union(*written.values()))
    if not dated:
        return '<p class="soft">The records carry no dates.</p>'
    shown = months_between(dated[0], dated[-1])
    bars = [
        (
            f"{month}: " + ", ".join(f"{counts[month]:,} {name}" for name, counts in written.items()),
            [(counts[month], SET_COLOURS[name]) for name, counts in written.items()],
        )
        for month in shown
    ]
    note = '<p class="soft">Records a month. The newest conversations are held out: the test is about the future.</p>'
    return note + charts.legend(list(SET_COLOURS.items())) + charts.timeline(shown, bars)


def _masked(masked: Mapping[str, int]) -> str:
    if not masked:
        return '<p class="soft">No secrets or personal data were found in the records.</p>'
    chips = "".join(f"<span>[{_shown(kind)}] {count:,}</span>" for kind, count in masked.items())
    note = '<p class="soft">Values that became placeholders. Read some records: no search finds everything.</p>'
    return f'{note}<div class="chips">{chips}</div>'


def _settings(settings: Mapping[str, Any]) -> str:
    lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    return f"<details><summary>as they were resolved</summary><code>{_shown(lines)}</code></details>"
