"""Replies of a model: one loop streams a single reply to a chat and answers many prompts at once.

`model.generate` has one random generator for a whole batch, so a drawn reply would depend on its neighbours, and no
way to stop between two tokens. Here each prompt has a generator of its own, seeded by the prompt.

B prompts in a batch, T tokens of the longest with what has been drawn so far, V the vocabulary.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers.decoders import DecodeStream
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from utils import console, prompts
from utils.evaluation import cached
from utils.evaluation.results import Reply
from utils.evaluation.settings import EvaluationSettings
from utils.likelihood import takes_positions
from utils.records import Record

BATCH_TOKENS = 4096  # of prompts with their padding
LOWEST_TEMPERATURE = 1e-4  # below it only the likeliest token is ever drawn; far below, logits over it are no numbers
LIKELIEST_TOKENS = 256  # nearly always hold `top_p` of the mass; to sort a whole vocabulary takes a tenth of a step


@dataclass(frozen=True)
class Drawn:
    """The next token of prompt `row`. `margin` says how far its logit leads the best other one's; below 0, chance
    preferred it to a likelier one."""

    row: int
    token: int
    margin: float


@dataclass
class Completion:
    """What a prompt is answered with: token ids with the end-of-turn token, each one's margin, and wall times since its
    batch began."""

    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    first_token_seconds: float = 0.0
    seconds: float = 0.0


def answer_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    settings: EvaluationSettings,
    what: str = "replies",
) -> list[Reply]:
    """Answers every record's prompt, in order, prompts of similar length in one batch; true replies are not looked at.
    A batch has up to `settings.batch_size` prompts and `BATCH_TOKENS` tokens.

    A drawn reply follows from the seed and its own prompt, not from the order or from its neighbours.
    """
    prompt_ids = encode_prompts(records, tokenizer, settings)
    ends = prompts.end_of_turn_ids(tokenizer)
    replies: dict[int, Reply] = {}
    with console.progress("replies") as bar:
        task = bar.add_task(what, total=len(records))
        for batch in _batches(list(map(len, prompt_ids)), settings.batch_size):
            completions = complete(model, [prompt_ids[index] for index in batch], ends, settings)
            replies |= {index: to_reply(each, tokenizer) for index, each in zip(batch, completions, strict=True)}
            bar.advance(task, len(batch))
    return [replies[index] for index in range(len(records))]


def stream(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, record: Record, settings: EvaluationSettings
) -> Iterator[str]:
    """The reply to one record's prompt, piece by piece, as soon as a piece is whole characters."""
    ends = prompts.end_of_turn_ids(tokenizer)
    decoder = DecodeStream(skip_special_tokens=False)
    started, space = False, ""
    for (drawn,) in decode(model, encode_prompts([record], tokenizer, settings), ends, settings):
        piece = None if drawn.token in ends else decoder.step(tokenizer.backend_tokenizer, drawn.token)
        if not piece:
            continue
        piece = space + piece if started else piece.lstrip()
        text = piece.rstrip()
        space = piece[len(text) :]  # held back: a reply does not end in white space
        if text:
            started = True
            yield text


def decode(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], ends: set[int], settings: EvaluationSettings
) -> Iterator[list[Drawn]]:
    """The next token of every prompt that has not ended, step by step, up to `settings.max_new_tokens` of them.

    Prompts are padded on the left; positions count from a prompt's own first token and the mask hides the padding.
    Prompts that have ended leave the batch. Nothing is held across a `yield` but the cache, so a caller may stop at any
    step. A model that can't go on from a cache gets everything again in each step.
    """
    longest = max(map(len, prompt_ids))
    device = model.device
    input_ids = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in prompt_ids], device=device)  # (B, T)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    generators = [torch.Generator().manual_seed(_seed(ids, settings.seed)) for ids in prompt_ids]
    rows = list(range(len(prompt_ids)))
    caches = cached.goes_on(model, prompt_ids[0])
    cache = DynamicCache(config=model.config) if caches else None
    for _ in range(settings.max_new_tokens):
        with torch.inference_mode():
            logits = model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=caches,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
            tokens, margins = _choose(logits.float(), [generators[row] for row in rows], settings)
        yield [Drawn(*each) for each in zip(rows, tokens, margins, strict=True)]
        going_on = [index for index, token in enumerate(tokens) if token not in ends]
        if not going_on:
            return
        with torch.inference_mode():
            if caches and len(going_on) < len(rows):
                cache.reorder_cache(torch.tensor(going_on, device=device))  # of layers of any kind
            rows = [rows[index] for index in going_on]
            chosen = torch.tensor([[tokens[index]] for index in going_on], device=device)
            mask = torch.cat([mask[going_on], torch.ones_like(chosen)], dim=1)
            input_ids = chosen if caches else torch.cat([input_ids[going_on], chosen], dim=1)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]


def complete(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], ends: set[int], settings: EvaluationSettings
) -> list[Completion]:
    """Runs one batch to its end; of prompts of several lengths, one after the other where padding would count as a part
    of them."""
    if len(set(map(len, prompt_ids))) > 1 and not takes_positions(model):
        return [complete(model, [ids], ends, settings)[0] for ids in prompt_ids]
    completions = [Completion() for _ in prompt_ids]
    started_s = time.perf_counter()
    for drawn in decode(model, prompt_ids, ends, settings):
        now_s = time.perf_counter() - started_s
        for each in drawn:
            completion = completions[each.row]
            completion.tokens.append(each.token)
            completion.margins.append(each.margin)
            completion.seconds = now_s
            completion.first_token_seconds = completion.first_token_seconds or now_s
    return completions


def encode_prompts(
    records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings
) -> list[list[int]]:
    """Token ids of every record's prompt, shortened as in training."""
    return [prompts.encode_prompt_within(record, tokenizer, settings.max_length_tokens) for record in records]


def to_reply(completion: Completion, tokenizer: PreTrainedTokenizerBase) -> Reply:
    """A completion as text; a control token within it stays visible."""
    tokens = completion.tokens
    ended = tokens[-1] in prompts.end_of_turn_ids(tokenizer)
    text = tokenizer.decode(tokens[:-1] if ended else tokens).strip()
    return Reply(text, len(tokens), ended, completion.seconds, completion.first_token_seconds)


def _batches(lengths_tokens: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices of prompts, the shortest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths_tokens)), key=lambda index: lengths_tokens[index]):
        if len(batch) == batch_size or (batch and (len(batch) + 1) * lengths_tokens[index] > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _choose(
    logits: torch.Tensor, generators: Sequence[torch.Generator], settings: EvaluationSettings
) -> tuple[list[int], list[float]]:
    """A token and its margin for every row of `logits` (B, V): the likeliest one at a temperature that comes to 0,
    otherwise one drawn from the likeliest that have `top_p` of the mass."""
    (best, second), (likeliest, _) = (each.T for each in logits.topk(2))
    if settings.temperature < LOWEST_TEMPERATURE:
        return likeliest.tolist(), (best - second).tolist()
    chances = (logits / settings.temperature).softmax(-1)
    mass, order = chances.topk(min(LIKELIEST_TOKENS, chances.shape[-1]))
    if (mass.sum(-1) < settings.top_p).any():
        mass, order = chances.sort(descending=True)
    allowed = mass.cumsum(-1) - mass < settings.top_p
    allowed[:, 0] = True  # whatever a top_p rounds to
    reached = (mass * allowed).cumsum(-1)
    chance = torch.stack([torch.rand(1, generator=generator) for generator in generators]).to(logits.device)  # (B, 1)
    place = (reached <= chance * reached[:, -1:]).sum(-1, keepdim=True)
    tokens = order.gather(1, place.minimum(allowed.sum(-1, keepdim=True) - 1))
    rival = torch.where(tokens[:, 0] == likeliest, second, best)
    return tokens[:, 0].tolist(), (logits.gather(1, tokens)[:, 0] - rival).tolist()


def _seed(prompt: Sequence[int], seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {list(prompt)}".encode()).digest()[:8]) >> 1
