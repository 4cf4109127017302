"""evaluation.html: whole, escaped, self-contained, and fit for a screen and a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.evaluation import findings
from utils.evaluation import page, plots
from utils.evaluation.results import Comparison, Interval
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.training_curve import TrainingCurve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Outline(HTMLParser):
    """Tags that nest as they should, the text between them and every attribute."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.words, self.headings = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.words.append(text)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(text)


def rendered(**changes) -> str:
    return page.render(findings.evaluation(**changes)).decode()


def test_the_page_is_whole_and_escaped():
    text = rendered()
    outline = Outline(text)
    assert not {"script", "img", "iframe", "link", "adapter"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in ("src", "href")]
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import", text)
    said = "".join(outline.words)
    assert findings.HOSTILE in said and "models/some <adapter>" in said
    for heading in ("Base against tuned", "How to go on", "Checks", "Loss in training", "Held-out conversations"):
        assert heading in outline.headings
    assert outline.headings[0] == "The training helped."


def test_text_that_turns_around_stays_in_its_own_element():
    for place in re.finditer("\u202e", rendered()):
        before = rendered()[: place.start()]
        assert before.rfind("<bdi>") > before.rfind("</bdi>")


def test_twenty_conversations_side_by_side():
    text = rendered()
    assert text.count('class="conversation"') == 20
    for kind in ("reply true", "reply base", "reply tuned"):
        assert text.count(f'class="{kind}"') == 20
    assert "tuned 19 " in text and "tuned 20 " not in text
    assert text.count("cut off at the length limit") == 20  # the base's


def test_the_text_of_leaks_only_when_asked_for():
    assert findings.SECRET not in rendered() and "7/9#1" in rendered()
    assert findings.SECRET in rendered(settings=EvaluationSettings(show_text=True))


def test_warnings_come_first():
    text = rendered(memorization=findings.memorization("It repeats <b>everything</b>."))
    assert '<p class="warning">It repeats &lt;b&gt;everything&lt;/b&gt;.</p>' in text


def test_a_model_without_a_base_and_without_a_history():
    alone = tuple(replace(each, base=None) for each in findings.evaluation().answered)
    figures = tuple(
        replace(each, base=None, interval=None, better=each.better) for each in findings.evaluation().comparisons
    )
    text = rendered(
        base_name=None,
        verdict="no base to compare with",
        comparisons=figures,
        answered=alone,
        curve=None,
        memorization=None,
        unchecked=(),
    )
    Outline(text)
    assert "reply base" not in text and "<svg" not in text and "95.58" in text
    assert "Everything was." in text


@pytest.mark.parametrize(
    ("better", "low", "high", "judged", "right_of_the_line"),
    [
        ("lower", -3.0, -1.0, "good", True),
        ("lower", 1.0, 3.0, "bad", False),
        ("higher", 1.0, 3.0, "good", True),
        ("higher", -3.0, -1.0, "bad", False),
        ("higher", -1.0, 3.0, "open", None),
    ],
)
def test_better_is_right_of_the_line(better, low, high, judged, right_of_the_line):
    comparison = Comparison("m", 5.0 + (low + high) / 2, 5.0, Interval(low, high), better)
    assert plots.judged(comparison) == judged
    drawn = plots.interval(comparison)
    start, end = map(float, re.search(r'"span" d="M(\S+) 10H(\S+)"', drawn).groups())
    middle = float(re.search(r'"point" d="M(\S+) 10h0"', drawn)[1])
    assert start < middle < end and max(abs(start), abs(end)) == 90.0
    if right_of_the_line is None:
        assert start < 0 < end
    else:
        assert (start > 0) == (end > 0) == right_of_the_line


def test_a_metric_without_a_good_direction_has_no_place_between_worse_and_better():
    comparison = Comparison("m", 7.0, 5.0, Interval(1.0, 3.0), better=None)
    assert plots.judged(comparison) == "open"
    assert plots.interval(comparison) == ""


def test_nothing_is_drawn_of_what_is_no_number():
    assert plots.interval(Comparison("m", float("nan"), 1.0, None, "lower")) == ""
    assert plots.interval(Comparison("m", 1.0, 1.0, Interval(float("-inf"), 0.0), "lower")) == ""
    assert "NaN" not in plots.interval(Comparison("m", 1.0, 1.0, Interval(0.0, 0.0), "lower"))


@pytest.mark.parametrize(
    "curve",
    [
        TrainingCurve(((5, 4.0),), ()),
        TrainingCurve((), ((0, 4.0),)),
        TrainingCurve(((1, 2.0), (2, 2.0)), ((0, 2.0), (2, 2.0))),
    ],
)
def test_a_curve_of_few_points_stays_in_its_frame(curve):
    Outline(plots.loss_curve(curve))
    heights = [float(y) for y in re.findall(r"[ML]\S+ (\d+\.\d)", plots.loss_curve(curve))]
    assert heights and all(0 <= y <= plots.HEIGHT for y in heights)


def test_light_and_dark_desktop_and_phone():
    for rule in ("prefers-color-scheme: dark", "max-width: 700px", "width=device-width"):
        assert rule in rendered()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_chromium_shows_it(tmp_path, width, dark):
    """It is laid out no wider than the window; a frame stands for the phone, since headless Chromium's windows are no
    narrower than 500 px."""
    path, frame, shot = (tmp_path / name for name in ("evaluation.html", "frame.html", "page.png"))
    measure = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    loose = rendered().replace("default-src 'none';", "default-src 'unsafe-inline';").replace("</body>", measure)
    path.write_text(loose, encoding="utf-8")  # the page itself runs no scripts; this copy measures
    frame.write_text(
        "<!DOCTYPE html><body style='margin:0'><script>onmessage = event => document.title = event.data</script>"
        f"<iframe src='{path.as_uri()}' style='border:0;width:{width}px;height:3000px'></iframe></body>"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={max(width, 500)},3000"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []

    def chromium(*more):
        return subprocess.run([CHROMIUM, *flags, *more], capture_output=True, timeout=120, check=True)

    dumped = chromium("--virtual-time-budget=3000", "--dump-dom", frame.as_uri()).stdout.decode()
    title = re.search(r"<title>(\d+)</title>", dumped)
    assert title and int(title[1]) <= width
    chromium(f"--screenshot={shot}", frame.as_uri())
    assert shot.read_bytes().startswith(b"\x89PNG") and shot.stat().st_size > 20_000
    from PIL import Image

    with Image.open(shot) as picture:
        corner = picture.convert("RGB").getpixel((2, 2))
    assert (sum(corner) < 200) == dark
