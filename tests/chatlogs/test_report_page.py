"""report.html: whole, escaped, self-contained, and fit for a screen and a phone."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

import prepare_training_data
from tests.chatlogs import discord_files as files
from utils import records

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Outline(HTMLParser):
    """Tags that nest as they should, the text between them and every attribute."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.words, self.headings = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] != "style":
            self.words.append(text)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(text)


def make(folder, **keys):
    messages = files.conversations(12, **keys)
    for message in messages:
        message["content"] = message["content"].replace("the ", f"the {HOSTILE} ", 1)
        message["author"]["nickname"] += "<u>&"
    messages[-2]["content"] += " mail ana@example.org"
    files.write(folder / "raw" / "a.json", messages)
    flags = ["--source", str(folder / "raw"), "--persona", "rohan", "--output-dir", str(folder / "out")]
    prepare_training_data.main(flags)
    return folder / "out" / "report.html"


def test_the_page_is_whole_and_escaped(tmp_path):
    path = make(tmp_path)
    page = path.read_text(encoding="utf-8")
    outline = Outline(page)
    assert not {"script", "img", "u", "link", "iframe"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in ("src", "href")]
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r"http-equiv", "", page.split("</head>")[0])
    text = "".join(outline.words)
    assert HOSTILE in text
    for heading in ("Messages a month", "Reply lengths", "Sets over time", "Masked", "Sample records"):
        assert heading in outline.headings
    assert "Who Rohan<u>& answers" in outline.headings and "[email] 1" in text
    assert page.count('class="turn own supervised"') == 12 and text.count("confidence 0.9") == 12
    trained = records.read(path.parent / "train.jsonl")
    assert any(record.output in text for record in trained)


def test_light_and_dark_desktop_and_phone(tmp_path):
    page = make(tmp_path).read_text(encoding="utf-8")
    for rule in ("prefers-color-scheme: dark", "max-width: 700px", "width=device-width"):
        assert rule in page


def test_one_partner_and_few_records_make_a_page(tmp_path):
    messages = files.conversations(3, turns=1)
    files.write(tmp_path / "raw" / "a.json", messages)
    source, out = str(tmp_path / "raw"), str(tmp_path / "out")
    prepare_training_data.main(["--source", source, "--persona", "rohan", "--output-dir", out])
    Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_chromium_shows_it(tmp_path, width):
    """It is laid out no wider than the window (500 px is the narrowest that headless Chromium lays out)."""
    path = make(tmp_path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--window-size={width},1500"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"]

    def chromium(*more):
        return subprocess.run([CHROMIUM, *flags, *more], capture_output=True, timeout=120, check=True)

    shot = tmp_path / "page.png"
    chromium(f"--screenshot={shot}", path.as_uri())
    assert shot.read_bytes().startswith(b"\x89PNG") and shot.stat().st_size > 20_000
    dumped = chromium("--dump-dom", path.as_uri()).stdout.decode()
    assert dumped.count('class="turn own supervised"') == 12 and "<script" not in dumped
    frame = tmp_path / "frame.html"  # a page around it that measures: the report itself runs no scripts
    loose = path.read_text(encoding="utf-8").replace("default-src 'none';", "default-src 'unsafe-inline';")
    measure = "<script>document.title=document.documentElement.scrollWidth+'/'+innerWidth</script></body>"
    frame.write_text(loose.replace("</body>", measure), encoding="utf-8")
    title = re.search(r"<title>(\d+)/(\d+)</title>", chromium("--dump-dom", frame.as_uri()).stdout.decode())
    assert title and int(title[1]) <= int(title[2])
