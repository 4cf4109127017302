"""Replies of the model, drawn with a fixed seed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, set_seed

from utils import prompts
from utils.evaluation.settings import EvaluationSettings
from utils.records import Record


@dataclass(frozen=True)
class Reply:
    """`text` without control tokens; `tokens` includes the end-of-turn token; `ended` says that there was one before
    the length limit; `seconds` is the wall time."""

    text: str
    tokens: int
    ended: bool
    seconds: float


def answer(model: PeftModel, tokenizer: PreTrainedTokenizerBase, record: Record, settings: EvaluationSettings) -> Reply:
    """Answers a record's prompt; its true reply is not looked at."""
    set_seed(settings.seed)
    prompt = prompts.encode_prompt_within(record, tokenizer, settings.max_length_tokens)
    input_ids = torch.tensor([prompt], device=model.device)
    drawn = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    ends = sorted(prompts.end_of_turn_ids(tokenizer))
    started_s = time.perf_counter()
    with torch.inference_mode():
        output = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
            **(drawn if settings.temperature > 0 else {"do_sample": False}),
        )[0, len(prompt) :].tolist()
    seconds = time.perf_counter() - started_s
    ended = bool(output) and output[-1] in ends
    text = tokenizer.decode(output[:-1] if ended else output).strip()
    return Reply(text, len(output), ended, seconds)
