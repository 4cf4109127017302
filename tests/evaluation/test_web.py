"""The chat page, driven in headless Chromium as a person would.

Needs what requirements-web.txt lists, `pip install playwright`, and Chromium."""

from __future__ import annotations

import importlib.util
import shutil
import sys

import pytest

from utils.console import UserError
from utils.evaluation import web
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.subjects import load

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SETTINGS = EvaluationSettings(temperature=0.0, max_new_tokens=12, system="You are Rohan.")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError) as error:
        web.build(None, SETTINGS)
    assert str(error.value) == "--web needs gradio: pip install -r requirements-web.txt; --chat needs nothing"


@pytest.fixture
def address(trained_adapter):
    page = web.build(load(trained_adapter, device="cpu"), SETTINGS)
    yield web.serve(page)
    page.close()


@pytest.fixture
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
@needs("gradio")
@needs("playwright")
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_chat_in_the_browser(address, browser, held_out, width, scheme, tmp_path):
    """Both models answer, the tuned one as trained; markup stays text; nothing is fetched from elsewhere."""
    assert address.startswith("http://127.0.0.1:")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.fill("#message textarea", held_out.instruction)
    page.click("#send")
    page.wait_for_function("document.querySelector('#message textarea').value == ''", timeout=60_000)
    page.type("#message textarea", "typed meanwhile")
    page.wait_for_function(f"document.querySelector('#tuned').innerText.includes({held_out.output!r})", timeout=60_000)
    page.wait_for_function("document.querySelectorAll('#base .bot').length > 0", timeout=60_000)
    assert held_out.output not in page.inner_text("#base")
    page.wait_for_selector("#send:not([disabled])", timeout=60_000)
    assert page.input_value("#message textarea") == "typed meanwhile"

    page.fill("#message textarea", "<img src=http://example.org/x.png> ![](http://example.org/y.png)")
    page.press("#message textarea", "Enter")
    page.wait_for_function("document.querySelectorAll('#base .bot').length > 1", timeout=60_000)
    assert "<img src=http://example.org/x.png>" in page.inner_text("#tuned")
    assert "![](http://example.org/y.png)" in page.inner_text("#base")
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=tmp_path / "chat.png")

    page.click("#reset")
    page.wait_for_function("document.querySelectorAll('#tuned .bot, #base .bot').length == 0", timeout=60_000)
