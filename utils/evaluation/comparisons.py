"""Base and tuned model on the same held-out conversations: measured alike, compared metric by metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from utils import console
from utils.evaluation import ranking
from utils.evaluation.bootstrap import Statistic, interval, point, ratio, resample_weights
from utils.evaluation.contexts import HeldOutReply
from utils.evaluation.results import Better, Comparison
from utils.evaluation.shared_prefix import Pair, score_pairs

PERPLEXITY = "perplexity"
NLL = "NLL per token"
CONTEXT_GAIN = "context gain"
LISTENS = "replies with a context gain"
MRR = "MRR"


@dataclass(frozen=True)
class ReplyLikelihood:
    """How a model finds one true reply.

    The NLLs are in nats, summed over the reply's `tokens`: under its own context, wrong ones (none when there is just
    one conversation) and an empty one. `rank` is its place among `candidates` replies by mean log p, `pmi_rank` by
    log p(r given c) - log p(r); both are None when there is nothing to rank it among.
    """

    conversation: str
    tokens: int
    characters: int
    nll: float
    wrong_nlls: tuple[float, ...]
    empty_nll: float
    candidates: int
    rank: int | None
    pmi_rank: int | None


def measure(model: torch.nn.Module, held_out: Sequence[HeldOutReply], what: str) -> list[ReplyLikelihood]:
    """Scores each held-out reply under all of its contexts, and its competitors. `what` labels the progress bar."""
    pairs = list(dict.fromkeys(pair for reply in held_out for pair in reply.pairs()))
    with console.progress("replies scored") as bar:
        task = bar.add_task(what, total=len(pairs))
        scores = score_pairs(model, pairs, lambda count: bar.advance(task, count))
    nll = {pair: score.nll for pair, score in zip(pairs, scores, strict=True)}
    return [_likelihood(reply, nll) for reply in held_out]


def _likelihood(held_out: HeldOutReply, nll: dict[Pair, float]) -> ReplyLikelihood:
    def mean_log_p(reply: tuple[int, ...]) -> float:
        return -nll[Pair(held_out.context, reply)] / len(reply)

    def pmi(reply: tuple[int, ...]) -> float:
        return nll[Pair(held_out.empty_context, reply)] - nll[Pair(held_out.context, reply)]

    def place(score: Callable[[tuple[int, ...]], float]) -> int | None:
        return ranking.rank(score(held_out.reply), list(map(score, held_out.others))) if held_out.others else None

    return ReplyLikelihood(
        conversation=held_out.conversation,
        tokens=len(held_out.reply),
        characters=held_out.characters,
        nll=nll[Pair(held_out.context, held_out.reply)],
        wrong_nlls=tuple(nll[Pair(wrong, held_out.reply)] for wrong in held_out.wrong_contexts),
        empty_nll=nll[Pair(held_out.empty_context, held_out.reply)],
        candidates=1 + len(held_out.others),
        rank=place(mean_log_p),
        pmi_rank=place(pmi),
    )


@dataclass(frozen=True)
class _Metric:
    """A sum over replies of `numerator` over a sum of `denominator`, then `transform`ed. A reply without a numerator
    counts on neither side; a metric that no reply has a numerator for is left out."""

    name: str
    numerator: Callable[[ReplyLikelihood], float | None]
    denominator: Callable[[ReplyLikelihood], float]
    better: Better | None
    meaning: str
    transform: Callable[[np.ndarray], np.ndarray] = lambda value: value


def compare(tuned: Sequence[ReplyLikelihood], base: Sequence[ReplyLikelihood] | None, seed: int) -> list[Comparison]:
    """All metrics of likelihood, with intervals from a paired bootstrap over conversations. `base` and `tuned` are
    measured on the same replies in the same order; without a base there are just the tuned model's figures."""
    conversations = [each.conversation for each in tuned]
    weights = resample_weights(len(set(conversations)), seed)
    candidates = [each.candidates for each in tuned if each.rank is not None]
    return [
        comparison(
            metric.name,
            _statistic(metric, tuned),
            _statistic(metric, base) if base else None,
            weights,
            metric.better,
            metric.meaning,
        )
        for metric in _metrics(candidates)
        if any(metric.numerator(each) is not None for each in tuned)
    ]


def comparison(
    name: str, tuned: Statistic, base: Statistic | None, weights: np.ndarray, better: Better | None, meaning: str
) -> Comparison:
    """One metric at its point estimates, with the interval of the resamples `weights` (R, C)."""
    conversations = weights.shape[1]
    return Comparison(
        metric=name,
        tuned=point(tuned, conversations),
        base=point(base, conversations) if base else None,
        interval=interval(base, tuned, weights) if base else None,
        better=better,
        meaning=meaning,
    )


def _statistic(metric: _Metric, replies: Sequence[ReplyLikelihood]) -> Statistic:
    found = [metric.numerator(each) for each in replies]
    counted = ratio(
        [0.0 if value is None else value for value in found],
        [0.0 if value is None else metric.denominator(each) for value, each in zip(found, replies, strict=True)],
        [each.conversation for each in replies],
    )
    return lambda weights: metric.transform(counted(weights))


def _metrics(candidates: Sequence[int]) -> list[_Metric]:
    """`candidates` are the sizes of the choices that replies were ranked in, for the level of chance."""
    hits_chance = _chance(candidates, ranking.chance_hits_at_1)
    mrr_chance = _chance(candidates, ranking.chance_mrr)
    return [
        _Metric(
            PERPLEXITY,
            lambda each: each.nll,
            lambda each: each.tokens,
            "lower",
            "how surprised the model is by a token of the true replies; 1 would be not at all",
            lambda nll: np.exp(np.minimum(nll, 700.0)),
        ),
        _Metric(
            NLL, lambda each: each.nll, lambda each: each.tokens, "lower", "the logarithm of the perplexity, in nats"
        ),
        _Metric(
            "bits per character",
            lambda each: each.nll / math.log(2),
            lambda each: each.characters,
            "lower",
            "the same surprise by character, comparable between models with different vocabularies",
        ),
        _Metric(
            CONTEXT_GAIN,
            lambda each: _over_wrong_contexts(each, lambda wrong: (wrong - each.nll) / each.tokens),
            lambda each: 1,
            None,
            "nats a token by which the true context beats a wrong one; shrinks as the persona itself becomes known",
        ),
        _Metric(
            LISTENS,
            lambda each: _over_wrong_contexts(each, lambda wrong: float(wrong > each.nll)),
            lambda each: 1,
            "higher",
            "context understanding: share of replies likelier in their own context than in a wrong one; chance is 0.5",
        ),
        _Metric(
            "context gain over nothing",
            lambda each: (each.empty_nll - each.nll) / each.tokens,
            lambda each: 1,
            None,
            "nats a token by which the true context beats an empty message",
        ),
        _Metric(
            "hits@1",
            lambda each: None if each.rank is None else float(each.rank == 1),
            lambda each: 1,
            "higher",
            f"share of the messages whose true reply is the likeliest{hits_chance}",
        ),
        _Metric(
            MRR,
            lambda each: None if each.rank is None else 1 / each.rank,
            lambda each: 1,
            "higher",
            f"mean of 1/place of the true reply by likelihood{mrr_chance}",
        ),
        _Metric(
            "hits@1 by PMI",
            lambda each: None if each.pmi_rank is None else float(each.pmi_rank == 1),
            lambda each: 1,
            "higher",
            f"the same, by how much the message makes a reply likelier{hits_chance}",
        ),
        _Metric(
            "MRR by PMI",
            lambda each: None if each.pmi_rank is None else 1 / each.pmi_rank,
            lambda each: 1,
            "higher",
            f"mean of 1/place by how much the message makes a reply likelier{mrr_chance}",
        ),
    ]


def _over_wrong_contexts(reply: ReplyLikelihood, gain: Callable[[float], float]) -> float | None:
    """The mean over the reply's wrong contexts. Each is a fair draw, so several measure the same with less noise."""
    return fmean(map(gain, reply.wrong_nlls)) if reply.wrong_nlls else None


def _chance(candidates: Sequence[int], level: Callable[[Sequence[int]], float]) -> str:
    if not candidates:
        return ""
    return f"; among {max(candidates)} of similar length a blind choice gets {level(candidates):.2f}"
