"""A tiny random Llama with a small tokenizer, and a few records: what the tests train on instead of a real model."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="session")
def held_out():
    """The record that the trained adapter has memorised and that the prepared folder tests on."""
    from utils.records import Record

    return Record(instruction="is soup a drink?", output="okay but hear me out", system="You are Rohan.")


@pytest.fixture
def data_dir(tmp_path: Path, conversation, held_out) -> Path:
    """A prepared folder with 4 training, 1 validation and 1 test record."""
    from utils import records
    from utils.records import Record

    folder = tmp_path / "processed"
    extra = Record(instruction="the cat?", output="on the keyboard again", system="You are Rohan.")
    records.write(folder / "train.jsonl", [*conversation, extra])
    records.write(folder / "validation.jsonl", [held_out])
    records.write(folder / "test.jsonl", [held_out])
    return folder


@pytest.fixture(scope="session")
def trained_adapter(tiny_base: Path, tokenizer, held_out, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the train scripts leave it, not to be changed: LoRA that knows `held_out` by heart."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from utils import prompts
    from utils.base_models import BaseModel, Compute
    from utils.likelihood import collate, token_nll
    from utils.training import artifacts
    from utils.training.settings import TrainingSettings

    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), lora)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=5e-3)
    row = collate([prompts.encode(held_out, tokenizer)])
    for _ in range(40):
        optimizer.zero_grad()
        token_nll(model, row).mean().backward()
        optimizer.step()

    run = TrainingSettings(
        base_model=str(tiny_base),
        output_dir=tmp_path_factory.mktemp("adapter") / "trained",
        quantization="none",
        lora_rank=4,
        lora_alpha=8,
    )
    base = BaseModel(run.base_model, run.base_model)
    identity = artifacts.fingerprints(
        run, base, tokenizer, "0" * 64, Compute(torch.device("cpu"), torch.float32, "none")
    )
    return artifacts.save(model, tokenizer, run, base, identity, {"optimizer_steps": 40})


@pytest.fixture
def adapter_folder(trained_adapter: Path, tmp_path: Path) -> Path:
    """A copy of the trained adapter, to be changed at will."""
    return shutil.copytree(trained_adapter, tmp_path / "adapter")
