"""A tokenizer in the words of GGUF, so that llama.cpp splits a rendered prompt into the same token ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from utils import prompts
from utils.console import UserError

CONVERTER = "make it with --to merged, then run llama.cpp's convert_hf_to_gguf.py on that folder"


@dataclass(frozen=True)
class Vocabulary:
    """`tokens`, `types` and `scores` have one entry per row of the embedding.

    `kind` is llama.cpp's name of the algorithm: "llama" merges by score, as SentencePiece does, "gpt2" by the list of
    `merges` after splitting as `splitter` says. `space_prefix` says that a space goes before every piece of text
    between two control tokens; `leading_space` that one goes before the text that a chat begins with, and nowhere else,
    which llama.cpp can't, so that the chat template writes it.
    """

    kind: str
    splitter: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    space_prefix: bool = False
    leading_space: bool = False


def read(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """The vocabulary with `size` entries, those that the tokenizer doesn't use filled up.

    Raises UserError when llama.cpp would split text in another way, as far as this module can tell.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model = parts["model"]
    if model.get("type") != "BPE" or model.get("ignore_merges"):
        raise UserError(f"this tokenizer ({model.get('type')}) can't be written as GGUF here; {CONVERTER}")
    tokens, types = _tokens(tokenizer, size)
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    if model.get("byte_fallback"):
        space_prefix, at_the_start = _spaces(parts)
        leading_space = at_the_start and not _begins_without_a_space(tokenizer)
        return Vocabulary("llama", "default", tokens, types, _scores(tokens, pairs), (), space_prefix, leading_space)
    merges = tuple(f"{left} {right}" for left, right in pairs)
    return Vocabulary("gpt2", _splitter(parts), tokens, types, merges=merges)


def chat_template(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> str:
    return ("{{ ' ' }}" if vocabulary.leading_space else "") + tokenizer.chat_template


def add(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, writer: gguf.GGUFWriter) -> None:
    """Writes it into the file's metadata. No token is put before a prompt: the chat template says what stands there."""
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.splitter)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.kind == "llama":
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.space_prefix)
    else:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    ids = {"bos": tokenizer.bos_token_id, "unk": tokenizer.unk_token_id, "pad": tokenizer.pad_token_id}
    for name, token_id in ids.items():
        if token_id is not None:
            getattr(writer, f"add_{name}_token_id")(token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for token_id in sorted(prompts.end_of_turn_ids(tokenizer) - {tokenizer.eos_token_id})[:1]:
        writer.add_eot_token_id(token_id)
    writer.add_chat_template(chat_template(tokenizer, vocabulary))


def _tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    added = tokenizer.added_tokens_decoder
    by_id = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    if max(by_id) >= size:
        raise UserError(f"the tokenizer has {max(by_id) + 1} tokens and the model {size}; export what belongs together")
    tokens, types = [], []
    for token_id in range(size):
        token = by_id.get(token_id, f"[PAD{token_id}]")
        if token_id not in by_id:
            kind = gguf.TokenType.UNUSED
        elif token_id == tokenizer.unk_token_id and token == "<unk>":
            kind = gguf.TokenType.UNKNOWN
        elif token_id in added:
            kind = gguf.TokenType.CONTROL if added[token_id].special else gguf.TokenType.USER_DEFINED
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kind = gguf.TokenType.BYTE
        else:
            kind = gguf.TokenType.NORMAL
        tokens.append(token)
        types.append(int(kind))
    return tuple(tokens), tuple(types)


def _scores(tokens: tuple[str, ...], pairs: list[list[str]]) -> tuple[float, ...]:
    """SentencePiece joins the neighbours that make the token with the highest score first: minus the rank of the first
    merge that makes it. What no merge makes is never chosen, so its score does not matter."""
    rank: dict[str, int] = {}
    for left, right in pairs:
        rank.setdefault(left + right, len(rank))
    return tuple(-float(rank[token] + 1) if token in rank else 0.0 for token in tokens)


def _spaces(parts: dict[str, Any]) -> tuple[bool, bool]:
    """Where SentencePiece's dummy space goes: before every piece, or before the first."""
    splitter, normalizers = parts["pre_tokenizer"], _sequence(parts["normalizer"], "normalizers")
    if splitter and splitter["type"] == "Metaspace" and not splitter.get("split") and not normalizers:
        return splitter["prepend_scheme"] == "always", splitter["prepend_scheme"] == "first"
    if splitter is None and {each["type"] for each in normalizers} <= {"Prepend", "Replace"}:
        return any(each["type"] == "Prepend" for each in normalizers), False
    raise UserError(f"this tokenizer's handling of spaces can't be written as GGUF here; {CONVERTER}")


def _begins_without_a_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a chat begins with a control token, such as BOS, or a space: none is put before these."""
    chat = [{"role": "system", "content": "text"}, {"role": "user", "content": "text"}]
    rendered = prompts.render(chat, tokenizer, generation_prompt=True)
    return rendered.startswith((" ", *(token.content for token in tokenizer.added_tokens_decoder.values())))


def _splitter(parts: dict[str, Any]) -> str:
    """llama.cpp's name of the way in which text is split before merging."""
    steps = _sequence(parts["pre_tokenizer"], "pretokenizers")
    byte_level = steps and steps[-1]["type"] == "ByteLevel" and not steps[-1]["add_prefix_space"]
    if byte_level and steps[-1]["use_regex"] and not parts["normalizer"]:
        if len(steps) == 1:
            return "gpt-2"
        if len(steps) == 2 and steps[0]["type"] == "Digits" and steps[0]["individual_digits"]:
            return "smollm"
    raise UserError(f"this tokenizer's way of splitting text can't be written as GGUF here; {CONVERTER}")


def _sequence(part: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return part[inside] if part["type"] == "Sequence" else [part]
