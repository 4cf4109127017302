"""A GGUF file gives the logits, the replies and the token ids of the model that it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from utils import prompts
from utils.base_models import Compute
from utils.console import UserError
from utils.export import gguf_file, gguf_vocabulary

CPU = Compute(torch.device("cpu"), torch.float32, "none")
TINYLLAMA = SHARED / "tinyllama"
STARTER = ROOT / "models/base/smollm2-135m-instruct"

CHATS = [
    "hello there, how are you today?",
    "soup?",
    "the cat sat on the keyboard again",
    "12 345 6789 cats, 3.14!",
    "naïve café 🦆 日本語",
    "tabs\tand  two   spaces\nand lines\n\nand more",
    "<|user|>\nforged</s><|im_end|>",
    "don't you're we'll I'm",
    "UPPER lower MiXeD",
    "http://example.org/a?b=c&d=e#f",
    "```python\nprint('hi')\n```",
    "...!!!???",
    "a",
    "what is the capital of France?",
    "ok",
    "I think therefore I am. Or not?",
    "ünïcödé ﬁ ligature ½",
    "▁ a lone mark",
    "spaces at the end   ",
    "<0x0A> is written out",
]


@dataclass(frozen=True)
class Written:
    """A GGUF file and the float16 model that it was made from, computing in float32."""

    path: Path
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase


def written(model, tokenizer, folder: Path, kind: str) -> Written:
    model.half().save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    gguf_file.write(folder / "merged", tokenizer, folder / "model.gguf", kind)
    source = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32).eval()
    return Written(folder / "model.gguf", source, tokenizer)


def rendered(tokenizer, asked: str) -> str:
    messages = [{"role": "system", "content": "You are Rohan."}, {"role": "user", "content": "hi"}]
    messages += [{"role": "assistant", "content": "yo"}, {"role": "user", "content": asked}]
    return prompts.render(messages, tokenizer, generation_prompt=True)


def ids_of(tokenizer, asked: str) -> list[int]:
    """As the adapter sees it in training and testing."""
    return tokenizer(rendered(tokenizer, asked), add_special_tokens=False)["input_ids"]


def greedy(model, ids: list[int], tokens: int) -> list[int]:
    output = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return output[0, len(ids) :].tolist()


def random_llama(tokenizer, **changes) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **(shape | {"num_key_value_heads": 2, "tie_word_embeddings": False} | changes),
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def tiny(tiny_base, tmp_path_factory) -> Written:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    return written(model, tokenizer, tmp_path_factory.mktemp("f16"), "f16")


@pytest.fixture(scope="module")
def tinyllama(tmp_path_factory) -> Written:
    """TinyLlama's own tokenizer over random weights."""
    if not TINYLLAMA.exists():
        pytest.skip("TinyLlama's tokenizer is not at ../shared/tinyllama")
    tokenizer = AutoTokenizer.from_pretrained(TINYLLAMA)
    return written(random_llama(tokenizer), tokenizer, tmp_path_factory.mktemp("tinyllama"), "f16")


def test_transformers_reads_back_the_same_model(tiny):
    loaded = gguf_file.load(tiny.path, CPU)
    assert loaded.config.tie_word_embeddings is False
    for asked in CHATS:
        ids = ids_of(tiny.tokenizer, asked)
        with torch.no_grad():
            wanted, found = tiny.model(torch.tensor([ids])).logits, loaded(torch.tensor([ids])).logits
        assert torch.allclose(found, wanted, atol=1e-5)
        assert greedy(loaded, ids, 8) == greedy(tiny.model, ids, 8)


def test_8_bits_stay_close(tiny, tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    rounded = gguf_file.load(written(model, tiny.tokenizer, tmp_path, "q8_0").path, CPU)
    ids = torch.tensor([ids_of(tiny.tokenizer, CHATS[0])])
    with torch.no_grad():
        wanted, found = tiny.model(ids).logits, rounded(ids).logits
    assert 0 < (found - wanted).abs().max() < wanted.std() / 20
    stored = {each.name: each.tensor_type.name for each in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert (stored["blk.0.attn_q.weight"], stored["blk.0.attn_norm.weight"]) == ("Q8_0", "F32")


def test_a_tied_head_is_not_written_twice(tiny, tmp_path):
    model = random_llama(tiny.tokenizer, tie_word_embeddings=True)
    file = written(model, tiny.tokenizer, tmp_path, "f16")
    assert "output.weight" not in {each.name for each in gguf.GGUFReader(file.path).tensors}
    loaded = gguf_file.load(file.path, CPU)
    ids = torch.tensor([ids_of(tiny.tokenizer, CHATS[0])])
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, file.model(ids).logits, atol=1e-5)


def test_queries_and_keys_lie_in_ggmls_order(tiny):
    """transformers turns them back when it loads, so the file itself is looked at: ggml rotates neighbours."""
    stored = {each.name: each.data.astype(np.float32) for each in gguf.GGUFReader(tiny.path).tensors}
    attention, size = tiny.model.model.layers[1].self_attn, tiny.model.config.head_dim
    for name, layer in (("attn_q", attention.q_proj), ("attn_k", attention.k_proj)):
        found, head = stored[f"blk.1.{name}.weight"][size : 2 * size], layer.weight.detach().numpy()[size : 2 * size]
        assert np.array_equal(found[0::2], head[: size // 2])
        assert np.array_equal(found[1::2], head[size // 2 :])
    assert np.array_equal(stored["blk.1.attn_v.weight"], attention.v_proj.weight.detach().numpy())


@pytest.mark.parametrize("source", ["tiny", "tinyllama"])
def test_transformers_reads_back_the_same_tokenizer(request, source):
    file = request.getfixturevalue(source)
    loaded = AutoTokenizer.from_pretrained(file.path.parent, gguf_file=file.path.name)
    assert loaded.eos_token == file.tokenizer.eos_token
    for asked in CHATS:
        assert ids_of(loaded, asked) == ids_of(file.tokenizer, asked)


def test_scores_join_as_sentencepiece_does(tinyllama):
    """The scores are made from the merges alone; SentencePiece's own file says in which order it joins."""
    from transformers.convert_slow_tokenizer import import_protobuf

    original = import_protobuf().ModelProto()
    original.ParseFromString((TINYLLAMA / "tokenizer.model").read_bytes())
    vocabulary = gguf_vocabulary.read(tinyllama.tokenizer, len(tinyllama.tokenizer))
    assert list(vocabulary.tokens) == [piece.piece for piece in original.pieces]
    assert list(vocabulary.types) == [piece.type for piece in original.pieces]
    joined = [index for index, score in enumerate(vocabulary.scores) if score]
    assert len(joined) > 29_000
    by_ours = sorted(joined, key=lambda index: -vocabulary.scores[index])
    assert by_ours == sorted(joined, key=lambda index: -original.pieces[index].score)


def test_nothing_is_put_before_a_prompt(tiny, tinyllama):
    """Adapters are trained on the chat template's text as it is; TinyLlama's first space is written by the template."""
    for file in (tiny, tinyllama):
        fields = gguf.GGUFReader(file.path).fields
        assert fields["tokenizer.ggml.add_bos_token"].contents() is False
        template = fields["tokenizer.chat_template"].contents()
        assert template.removeprefix("{{ ' ' }}") == file.tokenizer.chat_template
    assert template.startswith("{{ ' ' }}")


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{{ eos_token }}{{ m['content'] }}{% endfor %}", False),
        ("{{ ' ' }}{% for m in messages %}{{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}", True),
    ],
    ids=["bos", "control", "space", "text"],
)
def test_tinyllamas_first_space_is_written_where_it_puts_one(template, written):
    """Before a control token or a space it puts none."""
    if not TINYLLAMA.exists():
        pytest.skip("TinyLlama's tokenizer is not at ../shared/tinyllama")
    other = AutoTokenizer.from_pretrained(TINYLLAMA)
    other.chat_template = template
    assert gguf_vocabulary.read(other, len(other)).leading_space is written


def test_the_file_says_how_replies_are_drawn(tiny):
    """llama.cpp takes these where the command line says nothing else."""
    fields = gguf.GGUFReader(tiny.path).fields
    said = {name: fields[f"general.sampling.{name}"].contents() for name in ("temp", "top_p", "top_k", "min_p")}
    assert said == {"temp": pytest.approx(0.7), "top_p": pytest.approx(0.9), "top_k": 0, "min_p": 0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "gemma2"}, "its architecture is gemma2"),
        ({"attention_bias": True}, "its linear layers have biases"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "its rotary positions are scaled (llama3)"),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
    ],
    ids=str,
)
def test_what_can_not_be_written_is_sent_to_the_converter(tiny, changes, reason):
    config = tiny.model.config.__class__()
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(UserError) as error:
        gguf_file.check_supported(config, tiny.tokenizer)
    assert str(error.value) == (
        f"this model can't be written as GGUF here: {reason}; make it with --to merged, then run llama.cpp's"
        " convert_hf_to_gguf.py on that folder"
    )


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "this tokenizer's way of splitting text"),
        ("normalizer", {"type": "NFC"}, "this tokenizer's way of splitting text"),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}, "this tokenizer (Unigram)"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_differently_is_refused(tiny, part, value, reason):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    parts = json.loads(tiny.tokenizer.backend_tokenizer.to_str())
    odd = Tokenizer.from_str(json.dumps(parts | {part: value}))
    with pytest.raises(UserError) as error:
        gguf_vocabulary.read(PreTrainedTokenizerFast(tokenizer_object=odd), 400)
    assert str(error.value).startswith(f"{reason} can't be written as GGUF here; make it with --to merged")


def llama_cpp(path: Path):
    llama = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    return llama.Llama(str(path), n_ctx=512, n_threads=1, verbose=False, logits_all=True)


def as_llama_cpp_renders(file: Written, asked: str) -> bytes:
    """The file's own chat template, rendered as llama.cpp's front ends do."""
    template = gguf.GGUFReader(file.path).fields["tokenizer.chat_template"].contents()
    own = AutoTokenizer.from_pretrained(file.path.parent / "merged")
    own.chat_template = template
    return rendered(own, asked).encode()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["tiny", "tinyllama"])
def test_llama_cpp_reads_the_same_tokens_and_logits(request, source):
    file = request.getfixturevalue(source)
    engine = llama_cpp(file.path)
    for asked in CHATS:
        ids = ids_of(file.tokenizer, asked)
        assert engine.tokenize(as_llama_cpp_renders(file, asked), add_bos=True, special=True) == ids, asked
        engine.reset()
        engine.eval(ids)
        found = torch.tensor(np.array(engine.scores[: len(ids)]))
        with torch.no_grad():
            wanted = file.model(torch.tensor([ids])).logits[0]
        assert (found - wanted).abs().max() < wanted.std() / 50


@pytest.mark.slow
def test_llama_cpp_gives_the_starters_greedy_replies(tmp_path):
    if not STARTER.exists():
        pytest.skip("the starter base model is not there; make quickstart fetches it")
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    file = written(AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32), tokenizer, tmp_path, "f16")
    engine = llama_cpp(file.path)
    for asked in CHATS:
        ids = ids_of(tokenizer, asked)
        assert engine.tokenize(as_llama_cpp_renders(file, asked), add_bos=True, special=True) == ids, asked
        engine.reset()
        reply = []
        for token in engine.generate(ids, temp=0.0):
            reply.append(token)
            if len(reply) == 16 or token == tokenizer.eos_token_id:
                break
        assert reply == greedy(file.model, ids, 16)[: len(reply)], asked
