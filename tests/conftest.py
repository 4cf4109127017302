"""A tiny random Llama with a small tokenizer, and a few records: what the tests train on instead of a real model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tiny model gains nothing from threads, and tests run side by side
os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault of an example
hypothesis.settings.load_profile("no deadline")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "hello there, how are you today? i am fine thanks",
    "the cat sat on the keyboard again and now everything is in capitals",
    "okay but hear me out: soup is a drink. no. fair enough",
    "You are Rohan, chatting on Discord. user assistant system",
]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of 2 layers and random weights, and a byte-level BPE tokenizer with ChatML."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture
def model(tiny_base: Path):
    """A fresh float32 copy of the tiny model."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base)


@pytest.fixture
def conversation():
    """Records of one conversation: each holds the earlier ones as history."""
    from utils.records import Record

    turns = [("hello there", "hi"), ("how are you today?", "i am fine thanks"), ("soup?", "soup is a drink. no.")]
    return [
        Record(instruction=asked, output=reply, system="You are Rohan.", history=tuple(turns[:index]))
        for index, (asked, reply) in enumerate(turns)
    ]


@pytest.fixture
def data_dir(tmp_path: Path, conversation) -> Path:
    """A prepared folder with 4 training, 1 validation and 1 test record."""
    from utils import records
    from utils.records import Record

    folder = tmp_path / "processed"
    extra = Record(instruction="the cat?", output="on the keyboard again", system="You are Rohan.")
    held_out = Record(instruction="is soup a drink?", output="okay but hear me out", system="You are Rohan.")
    records.write(folder / "train.jsonl", [*conversation, extra])
    records.write(folder / "validation.jsonl", [held_out])
    records.write(folder / "test.jsonl", [held_out])
    return folder
