"""Which messages of the person answered stand in the prompt, and how sure it is that the right one is among them."""

from __future__ import annotations

import math
from collections.abc import Collection

from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.scorer import Link

# The scorer's shares lean to the middle: of the instructions that it gave 0.28, 0.44 were right. Platt's logistic
# correction (1999), over the shares' log-odds; `benchmarks/fit_pairing.py` fits it on people and parts held out.
CALIBRATION_SLOPE = 0.72
CALIBRATION_SHIFT = 0.48


LIMIT_MESSAGES = 4
# Another message of the same person joins the instruction from this probability; if it addresses somebody else, from
# this; and from this if it stands in the instruction of the turn before already.
MIN_PROBABILITY = 0.01
MIN_PROBABILITY_TO_ANOTHER = 0.03
MIN_PROBABILITY_ANSWERED = 0.1
QUOTED_BURST_SECONDS = 30.0  # before an explicitly quoted message, its author's messages this close join it


def choose(view: ChannelView, link: Link, answered: Collection[int]) -> list[int]:
    """The likeliest message, and those of the same person that may belong to what is answered; in order.

    What the reply before `answered` comes again only if that is likely enough.
    """
    best = link.best_reply()
    room = LIMIT_MESSAGES - 1
    if link.explicit:
        burst = _burst_before(view, best, QUOTED_BURST_SECONDS)
        return sorted([best, *[index for index in burst if index not in answered][:room]])
    persona = view.person[link.index]

    def least(index: int) -> float:
        if index in answered:
            return MIN_PROBABILITY_ANSWERED
        if view.mentioned[index] and persona not in view.mentioned[index]:
            return MIN_PROBABILITY_TO_ANOTHER
        return MIN_PROBABILITY

    more = [
        index
        for index, probability in link.replies.items()
        if index != best and view.person[index] == view.person[best] and probability >= least(index)
    ]
    more.sort(key=lambda index: (-link.replies[index], index))
    return sorted([best, *more[:room]])


def confidence(link: Link, instruction: list[int]) -> float:
    """The estimated probability, 0 to 1, that the instruction holds the message that was really answered."""
    share = min(1.0, sum(link.replies.get(index, 0.0) for index in instruction))
    return calibrated(share) if link.ranked else share


def calibrated(share: float) -> float:
    if not 0 < share < 1:
        return share
    log_odds = math.log(share / (1 - share))
    return 1 / (1 + math.exp(-(CALIBRATION_SLOPE * log_odds + CALIBRATION_SHIFT)))


def _burst_before(view: ChannelView, index: int, gap_seconds: float) -> list[int]:
    """The author's messages that lead up to this one without a pause and to the same people, the latest first."""
    burst = []
    earlier = view.previous_of_author[index]
    while (
        earlier is not None
        and view.answerable[earlier]
        and view.seconds_between(earlier, index) <= gap_seconds
        and view.partner[earlier] == view.partner[index]
    ):
        burst.append(earlier)
        index, earlier = earlier, view.previous_of_author[earlier]
    return burst
