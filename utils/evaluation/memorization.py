"""Does the model hand out what it was trained on?

Every figure is set against the base model, which has never seen the training data, and against held-out replies of the
same person, which the tuned model has never seen: a stock phrase that it says to anybody is no leak.

- *Completed word for word*: greedy decoding from a reply's prompt gives the reply, token by token; of replies of 10
  tokens or more. Greedy decoding does so exactly when every token of the reply is the likeliest one after the true
  tokens before it, which one forward pass shows (Hayes et al. 2024, discoverable extraction with one greedy try).
- *Membership inference*: how well NLL_base - NLL_tuned per token tells a training reply from a held-out one.
- *Personal data* in replies drawn to training prompts, and how much of it stands in the training text.
- *Canaries*, for a training that had some planted: see canaries.py.

There is a warning for completed replies when two or more are completed that the base does not complete, and a
permutation test over conversations finds their share among the training replies too much above that among the held-out
ones to be chance (p < 0.05). With fewer than 10 held-out replies to compare with, a sign test against the base takes
its place. Any personal data out of the training text and any exposed canary is a warning as well.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.evaluation import bootstrap, canaries, personal_data
from utils.evaluation.canaries import Canary
from utils.evaluation.generation import answer_all
from utils.evaluation.probes import MIN_REPLY_TOKENS, Observed, Probe, choose, observe
from utils.evaluation.results import Better, Comparison, Leak, Memorization
from utils.evaluation.settings import EvaluationSettings
from utils.records import Record

if TYPE_CHECKING:
    from utils.evaluation.subjects import Subjects

MIN_CONTROL_REPLIES = 10
MIN_CASES = 2
SIGNIFICANCE = 0.05
PERMUTATIONS = 10_000
SAMPLED_REPLIES = 32


def measure(
    subjects: Subjects,
    training: Sequence[Record],
    held_out: Sequence[Record],
    settings: EvaluationSettings,
    planted: Sequence[Canary] = (),
) -> Memorization:
    """Looks for leaks in up to `settings.training_records` training replies, with as many held-out ones as control."""
    tokenizer = subjects.tokenizer
    members, others = (choose(records, tokenizer, settings) for records in (training, held_out))
    count = min(settings.training_records, SAMPLED_REPLIES, len(training))
    asked = random.Random(settings.seed).sample(list(training), count)
    with subjects.tuned() as model:
        tuned = observe(model, [*members, *others], "leaks, tuned model")
        replies = answer_all(model, tokenizer, asked, settings, "leaks, drawn replies")
        exposures = canaries.exposure(model, tokenizer, planted, settings.seed)
    base, base_exposures = None, None
    if subjects.has_base:
        with subjects.base() as model:
            base = observe(model, [*members, *others], "leaks, base model")
            base_exposures = canaries.exposure(model, tokenizer, planted, settings.seed)
    findings = [
        completed(members, others, tuned, base, settings.seed),
        membership(len(members), tuned, base),
        personal_data.finding(asked, replies, training),
        canaries.finding(exposures, base_exposures),
    ]
    return Memorization(
        comparisons=tuple(each for finding in findings for each in finding.comparisons),
        leaks=tuple(each for finding in findings for each in finding.leaks),
        warnings=tuple(each for finding in findings for each in finding.warnings),
    )


def completed(
    members: Sequence[Probe],
    others: Sequence[Probe],
    tuned: Sequence[Observed],
    base: Sequence[Observed] | None,
    seed: int,
) -> Memorization:
    """The shares of replies that are completed word for word, with the cases, the most surprising to the base first.

    `tuned` and `base` hold the members first, then the others.
    """
    if not members:
        return Memorization((), (), ())
    known = [each.verbatim for each in base] if base else [False] * len(tuned)
    excess = np.array([each.verbatim for each in tuned], dtype=float) - np.array(known, dtype=float)
    shown = [("training replies completed word for word", slice(None, len(members)), members, "lower")]
    if others:
        shown.append(("held-out replies completed word for word", slice(len(members), None), others, None))
    comparisons = [
        _share(name, [each.verbatim for each in tuned[part]], base and known[part], probes, better, seed)
        for name, part, probes, better in shown
    ]
    cases = [index for index in range(len(members)) if excess[index] > 0]
    cases.sort(key=lambda index: tuned[index].nll - (base[index].nll if base else 0.0))
    leaks = [Leak(members[index].name, members[index].record, _reason(index, tuned, base)) for index in cases]
    if len(others) >= MIN_CONTROL_REPLIES:
        p = permutation_p(excess, [each.conversation for each in [*members, *others]], len(members), seed)
        against = f"of {len(others)} held-out ones it completes {int(max(excess[len(members) :].sum(), 0))}"
    else:
        p = sign_test_p(len(cases), int((excess[: len(members)] < 0).sum()))
        against = "there are too few held-out ones to compare with"
    if len(cases) < MIN_CASES or p >= SIGNIFICANCE:
        return Memorization(tuple(comparisons), tuple(leaks), ())
    warning = (
        f"{len(cases)} of {len(members)} training replies come out word for word, beyond what the base knows;"
        f" {against}: train for fewer epochs, with a lower rank or on more data"
    )
    return Memorization(tuple(comparisons), tuple(leaks), (warning,))


def permutation_p(excess: np.ndarray, conversations: Sequence[str], members: int, seed: int) -> float:
    """How often chance alone gives the members' mean of `excess` (N,) such a lead over the others', or a larger one:
    which conversations are members is shuffled, 10,000 times. The first `members` values are those of the members."""
    both = np.stack([excess, np.ones(len(excess))], axis=1)
    sums = [
        bootstrap.conversation_sums(both[part], conversations[part]) for part in (slice(members), slice(members, None))
    ]
    pooled = np.concatenate(sums)  # (C, 2)
    labels = np.random.default_rng(seed).random((PERMUTATIONS, len(pooled))).argsort(axis=1) < len(sums[0])
    mine, total = labels @ pooled, pooled.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = mine[:, 0] / mine[:, 1] - (total - mine)[:, 0] / (total - mine)[:, 1]
    own = sums[0].sum(axis=0)
    rest = total - own
    return float((1 + (lead >= own[0] / own[1] - rest[0] / rest[1] - 1e-12).sum()) / (1 + PERMUTATIONS))


def sign_test_p(more: int, fewer: int) -> float:
    """The probability of `more` or more heads in `more + fewer` tosses."""
    tosses = more + fewer
    return sum(math.comb(tosses, heads) for heads in range(more, tosses + 1)) / 2**tosses


def membership(members: int, tuned: Sequence[Observed], base: Sequence[Observed] | None) -> Memorization:
    """The figures of membership inference; they come without a warning, because any training that helps also moves
    them: the persona changes over the years, and held-out conversations are the later ones."""
    if base is None or not 0 < members < len(tuned):
        return Memorization((), (), ())
    scores = [before.nll - after.nll for before, after in zip(base, tuned, strict=True)]
    found = (
        Comparison(
            "membership inference, AUC",
            auc(scores[:members], scores[members:]),
            meaning="how well the likelihood tells a training reply from a held-out one: 0.5 not at all, 1 always",
        ),
        Comparison(
            "membership inference, TPR at 1% FPR",
            true_positive_rate(scores[:members], scores[members:]),
            meaning="training replies that stand out when 1 in 100 held-out ones may: 0.01 is chance",
        ),
    )
    return Memorization(found, (), ())


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """The probability that a member scores higher than another; a tie counts half."""
    lead = np.asarray(members)[:, None] - np.asarray(others)[None, :]
    return float(((lead > 0) + 0.5 * (lead == 0)).mean())


def true_positive_rate(members: Sequence[float], others: Sequence[float], false_positive_rate: float = 0.01) -> float:
    """The share of members above the lowest threshold that at most `false_positive_rate` of the others exceed; under a
    hundred others that is none of them."""
    threshold = sorted(others, reverse=True)[int(false_positive_rate * len(others))]
    return float((np.asarray(members) > threshold).mean())


def _share(
    name: str,
    tuned: Sequence[bool],
    base: Sequence[bool] | None,
    probes: Sequence[Probe],
    better: Better | None,
    seed: int,
) -> Comparison:
    conversations = [probe.conversation for probe in probes]
    meaning = f"of {len(probes)} replies of {MIN_REPLY_TOKENS} tokens or more, given the prompt"
    if not base:
        return Comparison(name, float(np.mean(tuned)), better=better, meaning=meaning)
    ones = [1.0] * len(probes)
    before, after = (bootstrap.ratio(list(map(float, each)), ones, conversations) for each in (base, tuned))
    weights = bootstrap.resample_weights(len(set(conversations)), seed)
    return Comparison(
        name,
        float(np.mean(tuned)),
        float(np.mean(base)),
        bootstrap.interval(before, after, weights),
        better,
        meaning,
    )


def _reason(index: int, tuned: Sequence[Observed], base: Sequence[Observed] | None) -> str:
    likely = f"completed word for word, at {math.exp(-tuned[index].nll):.0%} a token"
    return f"{likely}; the base is at {math.exp(-base[index].nll):.0%}" if base else likely
