"""A merged model of the Llama architecture as one GGUF file, which llama.cpp and Ollama run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PretrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging

from utils import console
from utils.base_models import Compute
from utils.console import UserError
from utils.export import gguf_vocabulary, merged

GgufType = Literal["f16", "q8_0"]

BYTES_PER_WEIGHT = {"f16": 2.0, "q8_0": 34 / 32}  # q8_0: blocks of 32 signed bytes and one float16 scale


def check_supported(config: PretrainedConfig, tokenizer: Tokenizer) -> None:
    """Raises UserError for a model that this module would not write as llama.cpp reads it."""
    rope = (config.rope_parameters or {}).get("rope_type", "default") if hasattr(config, "rope_parameters") else None
    reasons = {
        f"its architecture is {config.model_type}": config.model_type != "llama",
        "its linear layers have biases": getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False),
        f"its rotary positions are scaled ({rope})": rope != "default",
        f"its activation is {getattr(config, 'hidden_act', None)}": getattr(config, "hidden_act", None) != "silu",
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"this model can't be written as GGUF here: {reason}; {gguf_vocabulary.CONVERTER}")
    gguf_vocabulary.read(tokenizer, config.vocab_size)


def write(model_folder: Path, tokenizer: Tokenizer, path: Path, kind: GgufType) -> None:
    """Converts a folder that `merged.write` made, one tensor in memory at a time."""
    config = AutoConfig.from_pretrained(model_folder)
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_architecture(config, writer, kind)
        gguf_vocabulary.add(gguf_vocabulary.read(tokenizer, config.vocab_size), tokenizer, writer)
        tensors = sorted(_tensors(model_folder, config), key=lambda each: each[1])
        for source, name, file_name in tensors:
            with safe_open(file_name, framework="np") as file:
                shape = tuple(file.get_slice(source).get_shape())
            stored = _stored_as(shape, kind)
            if stored is Type.Q8_0:
                shape = gguf.quant_shape_to_byte_shape(shape, stored)
            dtype = np.dtype({Type.F32: np.float32, Type.F16: np.float16, Type.Q8_0: np.uint8}[stored])
            size = int(np.prod(shape)) * dtype.itemsize
            writer.add_tensor_info(name, shape, dtype, size, raw_dtype=stored if stored is Type.Q8_0 else None)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with console.progress("tensors") as bar:
            for source, _, file_name in bar.track(tensors, description=f"GGUF {kind}"):
                with safe_open(file_name, framework="np") as file:
                    weight = _in_ggml_order(file.get_tensor(source).astype(np.float32), source, config)
                writer.write_tensor_data(gguf.quantize(weight, _stored_as(weight.shape, kind)))
    finally:
        writer.close()


def load(path: Path, compute: Compute) -> PreTrainedModel:
    """A GGUF file read back by transformers, its weights unpacked to float32."""
    if not console.err.is_terminal:
        logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        attn_implementation="sdpa",
    )
    return model.to(compute.device).eval()


def _add_architecture(config: PretrainedConfig, writer: gguf.GGUFWriter, kind: GgufType) -> None:
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name("chat model tuned on Discord replies")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.MOSTLY_Q8_0)
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sampling_temp(merged.TEMPERATURE)
    writer.add_sampling_top_p(merged.TOP_P)
    writer.add_sampling_top_k(merged.TOP_K)
    writer.add_sampling_min_p(0.0)


def _tensors(model_folder: Path, config: PretrainedConfig) -> Iterator[tuple[str, str, Path]]:
    """(name in transformers, name in GGUF, file) of every weight; a tied head is its embedding and is not repeated."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for path in sorted(model_folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for source in file.keys():  # noqa: SIM118
                if source == "lm_head.weight" and config.tie_word_embeddings:
                    continue
                name = names.get_name(source, try_suffixes=(".weight",))
                if name is None:
                    raise UserError(f"{source} has no name in GGUF; {gguf_vocabulary.CONVERTER}")
                yield source, name, path


def _stored_as(shape: tuple[int, ...], kind: GgufType) -> Type:
    """Norms stay in float32, as llama.cpp wants them; rows that don't divide into blocks stay in float16."""
    if len(shape) == 1:
        return Type.F32
    return Type.Q8_0 if kind == "q8_0" and shape[-1] % 32 == 0 else Type.F16


def _in_ggml_order(weight: np.ndarray, source: str, config: PretrainedConfig) -> np.ndarray:
    """Query and key rows, (heads * D, hidden), from transformers' order for rotary positions, where i turns with
    i + D/2, to ggml's, where 2i turns with 2i + 1."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for projection, count in heads.items():
        if f".{projection}." in source:
            halves = weight.reshape(count, 2, weight.shape[0] // count // 2, -1)
            return halves.swapaxes(1, 2).reshape(weight.shape)
    return weight
