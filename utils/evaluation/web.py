"""A chat page on this machine alone: base and tuned model side by side, each going on from its own replies."""

from __future__ import annotations

import dataclasses
import html
import os
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from utils import console
from utils.console import UserError
from utils.evaluation.chat import Conversation, Speaker, speak, system_prompt
from utils.evaluation.settings import EvaluationSettings
from utils.evaluation.subjects import Subjects
from utils.records import Record

if TYPE_CHECKING:
    import gradio

ADDRESS = "127.0.0.1"
CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
.said { height: calc(100vh - 200px) !important; min-height: 220px; }
.said > label { max-width: calc(100% - 44px); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.said .bubble-wrap { padding-top: 34px; }
@media (max-width: 640px) { .said { height: calc(50vh - 132px) !important; } }
"""

Said = dict[Speaker, tuple[Record, ...]]


def run(subjects: Subjects, settings: EvaluationSettings) -> None:
    """Serves the page until Ctrl-C.

    Raises UserError when gradio is not installed.
    """
    page = build(subjects, settings)
    console.say(f"\nchat page at {serve(page)} (this machine only); Ctrl-C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.say()
    finally:
        page.close()


def serve(page: gradio.Blocks) -> str:
    """Starts the server in the background and gives its address. Nothing leaves the machine: no share link, no
    analytics, no fonts from elsewhere."""
    import gradio

    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, url, _ = page.launch(
        server_name=ADDRESS,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        footer_links=[],
        theme=theme,
        css=CSS,
    )
    return url


def build(subjects: Subjects, settings: EvaluationSettings) -> gradio.Blocks:
    """The page, not yet served."""
    gradio = _gradio()
    speakers: tuple[Speaker, ...] = ("tuned", "base") if subjects.has_base else ("tuned",)
    names = {"tuned": f"tuned: {subjects.name}", "base": f"base: {subjects.base_name}"}
    one_at_a_time = threading.Lock()  # two browser windows share one model

    def respond(text: str, system: str, temperature: float, said: Said) -> Iterator[tuple]:
        if not text.strip():
            yield gradio.skip(), ready(True), said, *map(_shown, said.values())
            return
        drawn = dataclasses.replace(settings, temperature=temperature)
        before = said
        asked = {each: Conversation(system, turns=list(before[each])).ask(text) for each in speakers}

        def shown() -> tuple:
            """The later outputs of the event; the message stands alone where it has no reply yet."""
            return said, *(_shown(said[each], text if said[each] == before[each] else "") for each in speakers)

        yield "", ready(False), *shown()
        for speaker in speakers:
            pieces, reply = speak(subjects, speaker, asked[speaker], drawn), ""
            while True:
                with one_at_a_time:
                    piece = next(pieces, None)
                if piece is None:
                    break
                reply += piece
                said = {**said, speaker: (*before[speaker], msgspec.structs.replace(asked[speaker], output=reply))}
                yield gradio.skip(), gradio.skip(), *shown()  # what is being typed meanwhile stays
        yield gradio.skip(), ready(True), *shown()

    def ready(now: bool) -> dict:
        """A message that is sent while a reply is being written would be lost, so it can't be."""
        return gradio.update(interactive=now)

    def forget() -> tuple:
        return ready(True), dict.fromkeys(speakers, ()), *([] for _ in speakers)

    with gradio.Blocks(title=f"chat with {subjects.name}", analytics_enabled=False, fill_width=True) as page:
        said = gradio.State(dict.fromkeys(speakers, ()))
        with gradio.Row():
            windows = [
                gradio.Chatbot(
                    label=names[each],
                    render_markdown=False,
                    elem_classes="said",
                    elem_id=each,
                    feedback_options=None,
                    buttons=[],
                    min_width=300,
                    placeholder="nothing said yet",
                )
                for each in speakers
            ]
        with gradio.Row(equal_height=True):
            text = gradio.Textbox(
                show_label=False,
                container=False,
                placeholder="your message",
                scale=8,
                autofocus=True,
                elem_id="message",
                min_width=200,
            )
            send = gradio.Button("Send", variant="primary", scale=1, min_width=90, elem_id="send")
            stop = gradio.Button("Stop", scale=1, min_width=90, elem_id="stop")
            reset = gradio.Button("Reset", scale=1, min_width=90, elem_id="reset")
        with gradio.Accordion("settings", open=False):
            system = gradio.Textbox(system_prompt(settings), label="system prompt", lines=2)
            temperature = gradio.Slider(
                0, 1.5, settings.temperature, step=0.1, label="temperature; 0 takes the likeliest token"
            )
        answering = gradio.on(
            [text.submit, send.click],
            respond,
            [text, system, temperature, said],
            [text, send, said, *windows],
            show_progress="hidden",
            api_visibility="private",
        )
        stop.click(lambda: ready(True), None, send, cancels=[answering], api_visibility="private")
        emptied = [reset.click, *(window.clear for window in windows)]
        gradio.on(emptied, forget, None, [send, said, *windows], cancels=[answering], api_visibility="private")
    return page


def _gradio() -> ModuleType:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise UserError("--web needs gradio: pip install -r requirements-web.txt; --chat needs nothing") from None
    return gradio


def _shown(turns: tuple[Record, ...], waiting: str = "") -> list[dict[str, str]]:
    """What a chat window shows; `waiting` is a message without a reply yet. The window takes HTML, so that text has to
    be escaped: an image in it would be fetched."""
    said = [(role, text) for turn in turns for role, text in (("user", turn.instruction), ("assistant", turn.output))]
    said += [("user", waiting)] if waiting else []
    return [{"role": role, "content": html.escape(text, quote=False)} for role, text in said]
