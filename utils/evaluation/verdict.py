"""The one-line verdict: did training help?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from utils.evaluation.comparisons import LISTENS, MRR, NLL
from utils.evaluation.results import Comparison, Verdict
from utils.records import ENOUGH_CONVERSATIONS


def verdict(comparisons: Sequence[Comparison], conversations: int) -> Verdict:
    """Decides from two 95% intervals of tuned minus base, over the same held-out conversations.

    The first asks whether the true replies became likelier (NLL per token). The second asks whether the model still
    listens: where the true reply comes in among other replies of the same person (MRR). Likelihood alone is fooled by
    an adapter that picked up the persona's tone and forgot to listen, as training on replies paired with the wrong
    messages teaches. Among replies in the same tone, the tone is no advantage. The context gain in nats won't do: an
    honest training lowers it, because what is known of the persona beforehand is no longer gained from the context.
    Where nothing could be ranked, the share of replies that are likelier after their own message than after one from
    another conversation stands in.

    - hurt: the replies became less likely, or the model listens less: one of the intervals lies wholly on its bad
      side. So did a model whose NLL is no number, however few conversations there are.
    - helped: the replies became likelier, and the model listens no less.
    - no evidence: neither. The NLL's interval holds 0, so the difference may be chance.
    - too little to tell: fewer than 30 conversations, or no interval at all.
    - no base to compare with: there was no base model.

    What it can't see: a short training on wrong pairs that teaches the tone and leaves the listening as it was. Against
    the base it did help; how much more the true pairs would have taught shows only beside an adapter of those.

    Between two models that are equally good, "helped" comes up in about one evaluation in forty, "hurt" in one in
    twenty.
    """
    found = {each.metric: each for each in comparisons}
    if found[NLL].base is None:
        return "no base to compare with"
    likelihood = found[NLL].interval
    if not math.isfinite(found[NLL].tuned):
        return "hurt"
    if conversations < ENOUGH_CONVERSATIONS or likelihood is None:
        return "too little to tell"
    question = found.get(MRR) or found.get(LISTENS)
    listening = question.interval if question else None
    if likelihood.low > 0 or (listening and listening.high < 0):
        return "hurt"
    return "helped" if likelihood.high < 0 else "no evidence"
