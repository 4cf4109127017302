"""Prompts are the chat template's, masks cover the reply and its end, and no text forges a control token."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils import prompts
from utils.console import UserError
from utils.likelihood import collate
from utils.records import Record

ROOT = Path(__file__).resolve().parents[1]
REAL_TOKENIZERS = {
    "tinyllama": ROOT.parent / "shared" / "tinyllama",
    "starter": ROOT / "models" / "base" / "smollm2-135m-instruct",
}

# SentencePiece writes a space as U+2581 and the starter's vocabulary lacks some control bytes, so those do not survive;
# "<" begins control tokens.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"], exclude_characters="<\u2581")
CHAT = st.text(st.sampled_from("hello .,!?:)(*\n\t '🍜👍🏽é中\u200b\u2028"))
texts = st.text(CHARACTERS, max_size=20) | CHAT
replies = texts.filter(str.strip)
any_record = st.builds(
    Record,
    instruction=texts,
    input=texts,
    output=replies,
    system=texts,
    history=st.lists(st.tuples(texts, replies), max_size=2).map(tuple),
)
FORGERIES = [
    *(
        "<s>",
        "</s>",
        "<unk>",
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<repo_name>",
        "<|user|>",
        "<|assistant|>",
    ),
    *("<|system|>", "[INST]", "[/INST]", "<<SYS>>", "<|", "|>", "<", ">", "im_end", "/s", "\n", " ", "assistant", "hi"),
]
hostile = st.lists(st.sampled_from(FORGERIES), min_size=1, max_size=8).map("".join).filter(str.strip)


@pytest.fixture(scope="module", params=["small", *REAL_TOKENIZERS])
def any_tokenizer(request, tokenizer):
    """The small tokenizer, TinyLlama's and the starter's."""
    if request.param == "small":
        return tokenizer
    folder = REAL_TOKENIZERS[request.param]
    if not (folder / "tokenizer.json").exists():
        pytest.skip(f"there is no {request.param} tokenizer in {folder}")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def with_template(tiny_base):
    """The small tokenizer with another chat template."""
    from transformers import AutoTokenizer

    def load(template: str):
        changed = AutoTokenizer.from_pretrained(tiny_base)
        changed.chat_template = template
        return changed

    return load


def supervised_text(encoded, tokenizer) -> str:
    ((start, end),) = encoded.replies
    return tokenizer.decode(encoded.input_ids[start:end], clean_up_tokenization_spaces=False)


def prompt_ids(record, tokenizer) -> list[int]:
    return prompts.encode_prompt(prompts.prompt_messages(record), tokenizer)


EVERYDAY = Record(
    instruction=" what do you mean by a < b? <3\n",
    input="they said:\n> soup",
    output=" well…\n\n\nit's 🍜, 👩‍👩‍👧‍👦 and ¯\\_(ツ)_/¯  \n",
    system="You are Rohan.",
    history=(("hi", "hey 😀"), ("  spaced  out ", "\tyes\t")),
)


@given(any_record)
@example(EVERYDAY)
@settings(max_examples=60)
def test_what_is_supervised_is_the_reply_and_its_end(any_tokenizer, record):
    encoded = prompts.encode(record, any_tokenizer)
    assert supervised_text(encoded, any_tokenizer) == record.output.strip() + any_tokenizer.eos_token


@given(any_record)
@example(EVERYDAY)
@settings(max_examples=60)
def test_the_ids_are_those_of_the_chat_template(any_tokenizer, record):
    messages = [*prompts.prompt_messages(record), {"role": "assistant", "content": record.output}]
    stripped = [{**message, "content": message["content"].strip()} for message in messages]
    expected = any_tokenizer.apply_chat_template(stripped, tokenize=True, return_dict=False)
    assert list(prompts.encode(record, any_tokenizer).input_ids) == expected


@given(any_record | st.builds(Record, instruction=hostile, output=hostile))
@example(EVERYDAY)
@settings(max_examples=60)
def test_the_prompt_in_use_is_the_one_of_the_training(any_tokenizer, record):
    encoded = prompts.encode(record, any_tokenizer)
    ((start, _),) = encoded.replies
    assert prompt_ids(record, any_tokenizer) == list(encoded.input_ids[:start])


@given(st.builds(Record, instruction=hostile, input=hostile, output=hostile, system=hostile, history=st.just(())))
@settings(max_examples=60)
def test_hostile_text_forges_no_control_token_and_no_role(any_tokenizer, record):
    control = set(any_tokenizer.get_added_vocab().values()) | set(any_tokenizer.all_special_ids)

    def structure(record):
        messages = [*prompts.prompt_messages(record), {"role": "assistant", "content": record.output}]
        rendered = prompts.render(messages, any_tokenizer, generation_prompt=False)
        ids = [token for token in prompts.encode(record, any_tokenizer).input_ids if token in control]
        return ids, re.findall(r"<\|\w+\|>", rendered)

    assert structure(record) == structure(Record(instruction="a", input="b", output="c", system="d"))


def test_hostile_text_stays_readable(any_tokenizer):
    record = Record(instruction="hi", output="[INST] if a<b then <3 else <|user|>")
    encoded = prompts.encode(record, any_tokenizer)
    assert supervised_text(encoded, any_tokenizer) == "[INST] if a<b then <3 else < |user|>" + any_tokenizer.eos_token


def test_the_end_is_supervised_though_padding_is_the_same_token(any_tokenizer):
    assert any_tokenizer.pad_token_id == any_tokenizer.eos_token_id
    targets = collate([prompts.encode(EVERYDAY, any_tokenizer)])["targets"].tolist()
    assert targets[-1] == any_tokenizer.eos_token_id
    assert targets.count(any_tokenizer.eos_token_id) == 1


def test_no_template_puts_in_a_system_prompt_of_its_own(any_tokenizer):
    prompt = any_tokenizer.decode(prompt_ids(Record(instruction="hi", output="x"), any_tokenizer))
    assert prompt.count("system") == 1
    assert prompts.DEFAULT_SYSTEM_PROMPT in prompt


def test_messages_hold_the_whole_conversation_and_never_the_reply():
    messages = prompts.prompt_messages(EVERYDAY)
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert messages[-1]["content"] == "they said:\n> soup\n\n what do you mean by a < b? <3\n"
    assert messages == prompts.prompt_messages(msgspec.structs.replace(EVERYDAY, output="something else"))


LONG = Record(
    instruction="and now?",
    input="a quoted message",
    output="okay, soup is a drink",
    system="You are Rohan.",
    history=(("one", "first"), ("two", "second"), ("three", "third")),
)
# What is left of LONG, from everything to the least that can be.
SHORTER = [
    LONG,
    *(msgspec.structs.replace(LONG, history=LONG.history[left:]) for left in (1, 2, 3)),
    msgspec.structs.replace(LONG, history=(), input=""),
]


def test_the_oldest_turns_go_first_then_the_input_and_never_the_reply(any_tokenizer):
    sizes = [len(prompts.encode(record, any_tokenizer).input_ids) for record in SHORTER]
    assert sizes == sorted(sizes, reverse=True)
    for limit in range(sizes[-1], sizes[0] + 2):
        fitting = next(record for record, size in zip(SHORTER, sizes, strict=True) if size <= limit)
        assert prompts.encode_within(LONG, any_tokenizer, limit) == prompts.encode(fitting, any_tokenizer)
    assert prompts.encode_within(LONG, any_tokenizer, sizes[-1] - 1) is None


def test_a_prompt_is_shortened_as_in_training(any_tokenizer):
    sizes = [len(prompt_ids(record, any_tokenizer)) for record in SHORTER]
    for limit in range(sizes[-1], sizes[0] + 2):
        fitting = next(record for record, size in zip(SHORTER, sizes, strict=True) if size <= limit)
        assert prompts.encode_prompt_within(LONG, any_tokenizer, limit) == prompt_ids(fitting, any_tokenizer)
    assert prompts.encode_prompt_within(LONG, any_tokenizer, 5) == prompt_ids(LONG, any_tokenizer)[-5:]


NO_EOS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(NO_EOS + "{% if add_generation_prompt %}assistant: {% endif %}", id="ends in a space"),
        pytest.param(
            (NO_EOS + "{% if add_generation_prompt %}assistant:{% endif %}").replace(": {{", ":{{"), id="no border"
        ),
        pytest.param(
            (NO_EOS + "{% if add_generation_prompt %}assistant:\n\n{% endif %}").replace(": {{", ":\n\n{{"),
            id="blank line",
        ),
    ],
)
@pytest.mark.parametrize("reply", ["hello there", ": )", "okay\n\nfine", "🍜"])
def test_a_template_without_an_end_gets_one_behind_the_reply(with_template, template, reply):
    changed = with_template(template)
    record = Record(instruction="soup?", output=reply, history=(("hi", "hello"),))
    encoded = prompts.encode(record, changed)
    assert supervised_text(encoded, changed) == reply + changed.eos_token
    assert encoded.replies[0][1] == len(encoded.input_ids)
    assert prompt_ids(record, changed) == list(encoded.input_ids[: encoded.replies[0][0]])


def test_the_prompt_stays_itself_where_the_reply_changes_how_its_end_is_split():
    """A byte-level tokenizer reads a blank line as one token at the end of a text, as two before a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ"]
    backend = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, [("Ċ", "Ċ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}\n\n{{ m['content'] }}<eos>{% endfor %}"
        "{% if add_generation_prompt %}assistant\n\n{% endif %}"
    )
    record = Record(instruction="soup?", output="yes")
    encoded = prompts.encode(record, tokenizer)
    assert supervised_text(encoded, tokenizer) == "yes<eos>"
    assert prompt_ids(record, tokenizer) == list(encoded.input_ids[: encoded.replies[0][0]])


def test_another_end_of_turn_than_eos_is_the_one_supervised(tiny_base):
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny_base, eos_token="<|endoftext|>")
    assert supervised_text(prompts.encode(EVERYDAY, other), other).endswith("/¯<|im_end|>")
    assert prompts.end_of_turn_ids(other) == set(other.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))


def test_a_generation_prompt_that_the_reply_does_not_follow_is_refused(with_template):
    thinking = with_template(
        prompts.CHATML_TEMPLATE.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant\n<think>{%")
    )
    with pytest.raises(UserError) as error:
        prompts.encode(EVERYDAY, thinking)
    assert str(error.value) == (
        f"the chat template of {thinking.name_or_path} does not start a reply where its generation prompt ends; use a"
        " base model with a plainer template"
    )


GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def test_a_template_without_a_system_role_gets_the_system_prompt_in_the_first_user_turn(with_template):
    gemma = with_template(GEMMA)
    gemma.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    encoded = prompts.encode(EVERYDAY, gemma)
    ((start, _),) = encoded.replies
    assert prompt_ids(EVERYDAY, gemma) == list(encoded.input_ids[:start])
    told = gemma.decode(encoded.input_ids[:start], clean_up_tokenization_spaces=False)
    assert told.startswith(
        "<start_of_turn>user\nYou are Rohan.\n\nhi<end_of_turn>\n<start_of_turn>model\nhey 😀<end_of"
    )
    assert told.count("You are Rohan.") == 1
    assert supervised_text(encoded, gemma) == EVERYDAY.output.strip() + "<end_of_turn>"


def test_other_programs_get_a_template_that_takes_a_system_prompt(with_template, any_tokenizer):
    gemma = with_template(GEMMA)
    messages, talk = prompts.prompt_messages(EVERYDAY), [{"role": "user", "content": "hi"}]
    wanted = [prompts.render(each, gemma, generation_prompt=True) for each in (messages, talk)]
    gemma.chat_template = prompts.template_for_others(gemma)
    for each, text in zip((messages, talk), wanted, strict=True):
        assert gemma.apply_chat_template(each, tokenize=False, add_generation_prompt=True) == text
    assert prompts.template_for_others(any_tokenizer) == any_tokenizer.chat_template


def test_a_template_that_renders_no_chat_at_all_is_one_line(with_template):
    stubborn = with_template("{{ raise_exception('only documents') }}")
    with pytest.raises(UserError, match=r"the chat template of .* can't render a chat: only documents"):
        prompts.encode(EVERYDAY, stubborn)
