#!/usr/bin/env python3
"""Fits utils/chatlogs/pairing's weights and calibration to annotated reply links, and prints them to paste.

usage: python benchmarks/fit_pairing.py EXPORT_FOLDER --links reply_links.jsonl [--hold-out NAME ...]

The people held out by name, and every fourth part of the export, are never fitted on. In a third of the parts half of
the mentions are removed, in a third nine tenths, and everywhere half of the explicit replies, so that the weights also
serve channels where people mention and reply less. For quiet channels the same parts are fitted again, thinned to few
conversations at a time. The confidence is calibrated on the held-out parts. Needs numpy and 3 GB; about five minutes on
one core.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairing_channels import QUIET_CONVERSATIONS, quiet_views, read_links, read_parts, views

from utils.chatlogs.pairing import conversations, instructions, scorer, situations
from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.conversations import PairingSettings
from utils.chatlogs.pairing.weights import WEIGHTS, Weights

PERSONAS = ("ActionParsnip", "Dr_Willis", "ikonia", "jrib", "Seveas")
MASKED_SHARES = (0.0, 0.5, 0.9)  # of the mentions; part k gets share k mod 3
MIN_MESSAGES = 20  # of a person in the export: personas are people who speak a lot
RIDGE = 1.0  # weight of the squared norm in the objective, against overfitting
SIGNALS = (*WEIGHTS.reply, *WEIGHTS.own, *WEIGHTS.opening)
KINDS = ("reply",) * len(WEIGHTS.reply) + ("own",) * len(WEIGHTS.own) + ("opening",) * len(WEIGHTS.opening)


def design(
    view: ChannelView, links: dict[int, list[int]], skipped: set[str], weights: Weights
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(options x signals) values, the message number of each option, and whether it is a true one."""
    rows, owners, truth = [], [], []
    columns = len(SIGNALS)
    split = len(WEIGHTS.reply)
    for indices in by_person(view, links, skipped):
        for s, replies, owns in situations.in_order(view, indices):
            link = scorer.explicit_link(view, s.reply) or scorer.rank(s, replies, owns, weights)
            scorer.note(s, link)
            parents = links.get(view.messages[s.reply].id)
            if link.explicit or parents is None:
                continue
            true = true_options(view, s, parents, replies, owns)
            if not any(true):
                continue
            block = np.zeros((len(true), columns), dtype=np.float32)
            answered = len(replies.indices)
            for column, signal in enumerate(WEIGHTS.reply):
                block[:answered, column] = signal(s, replies)
            for column, signal in enumerate(WEIGHTS.own, start=split):
                block[answered:-1, column] = signal(s, owns)
            block[-1, -len(WEIGHTS.opening) :] = [f(s) for f in WEIGHTS.opening]
            rows.append(block)
            owners.append(len(true))
            truth.append(true)
    numbers = np.repeat(np.arange(len(owners)), owners)
    return np.concatenate(rows), numbers, np.concatenate([np.array(t, dtype=bool) for t in truth])


def by_person(view: ChannelView, links: dict[int, list[int]], skipped: set[str]) -> list[list[int]]:
    """The message indices of everybody with annotated messages: those, and the few before that set the scene."""
    spoken = defaultdict(list)
    for index, message in enumerate(view.messages):
        if view.answerable[index] and message.author_name.lower() not in skipped:
            spoken[view.person[index]].append(index)
    chosen = []
    for indices in spoken.values():
        keep = {
            earlier
            for place, index in enumerate(indices)
            if view.messages[index].id in links
            for earlier in range(max(0, place - 4), place + 2)
        }
        if keep:
            chosen.append([index for place, index in enumerate(indices) if place in keep])
    return chosen


def true_options(view, s, parents, replies, owns) -> list[bool]:
    """Which options are right: an annotated parent; the own one (the oldest candidate, if it is older); or nothing."""
    wanted = {view.index_of_id[parent] for parent in parents if parent in view.index_of_id}
    own = [index for index in wanted if view.person[index] == s.author]
    true = [index in wanted for index in replies.indices]
    seen = [index for index in own if index in owns.indices]
    oldest = min(owns.indices, default=None)
    true += [index in seen or (bool(own) and not seen and index == oldest) for index in owns.indices]
    nobody = not parents or all(not view.answerable[index] for index in wanted)
    return [*true, nobody]


def fit(values: np.ndarray, numbers: np.ndarray, truth: np.ndarray, steps: int = 25) -> np.ndarray:
    """Maximum likelihood of the conditional logit by Newton's method with step halving."""
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    w = np.zeros(values.shape[1])

    def objective(w: np.ndarray) -> float:
        p = shares(values @ w.astype(np.float32), numbers, starts)
        right = np.add.reduceat(np.where(truth, p, 0), starts)
        return float(np.log(right + 1e-12).sum() - RIDGE / 2 * w @ w)

    reached = objective(w)
    for _ in range(steps):
        p = shares(values @ w.astype(np.float32), numbers, starts)
        right = np.where(truth, p + 1e-12, 0)
        right /= np.add.reduceat(right, starts)[numbers]
        gradient = values.T @ (right - p) - RIDGE * w
        mean = np.add.reduceat(values * p[:, None], starts, axis=0)
        hessian = (values * p[:, None]).T @ values - mean.T @ mean + RIDGE * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-3 and objective(w + size * step) < reached:
            size /= 2
        w = w + size * step
        before, reached = reached, objective(w)
        if reached - before < 0.01:
            break
    return w


def shares(scores: np.ndarray, numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    exp = np.exp(scores - np.maximum.reduceat(scores, starts)[numbers])
    return exp / np.add.reduceat(exp, starts)[numbers]


def describe(values, numbers, truth, w) -> str:
    """Log-loss in nats per message, and how often a true option stands first, among all and among replies to others."""
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    ends = np.r_[starts[1:], len(numbers)]
    p = shares(values @ w, numbers, starts)
    right = np.add.reduceat(np.where(truth, p, 0), starts)
    first = [truth[a + np.argmax(p[a:b])] for a, b in zip(starts, ends, strict=True)]
    return f"messages {len(starts)}  log-loss {-np.log(right + 1e-12).mean():.3f}  first is true {np.mean(first):.3f}"


def confidences(view: ChannelView, links: dict[int, list[int]], skipped: set[str], weights: Weights) -> np.ndarray:
    """(replies, 2): the log-odds of the scorer's share for a reply, and whether its instruction holds a true parent."""
    rows = []
    for indices in by_person(view, links, skipped):
        for reply in conversations.find_replies(view, indices, PairingSettings(weights=weights))[0]:
            known = [links[view.messages[i].id] for i in reply.outputs if view.messages[i].id in links]
            if known and not any(scorer.explicit_link(view, index) for index in reply.outputs):
                asked = {view.messages[index].id for index in reply.instruction}
                rows.append((share_log_odds(reply.confidence), any(not asked.isdisjoint(one) for one in known)))
    return np.array(rows)


def share_log_odds(confidence: float) -> float:
    """What `instructions.calibrated` made the confidence of."""
    odds = np.clip(confidence, 1e-4, 1 - 1e-4)
    return (np.log(odds / (1 - odds)) - instructions.CALIBRATION_SHIFT) / instructions.CALIBRATION_SLOPE


def calibrate(rows: np.ndarray, steps: int = 25) -> tuple[float, float]:
    """Slope and shift of the log-odds (Platt 1999), by maximum likelihood."""
    x, right = np.stack([rows[:, 0], np.ones(len(rows))]), rows[:, 1]
    w = np.array([1.0, 0.0])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-w @ x))
        w = w + np.linalg.solve((x * (p * (1 - p))) @ x.T, x @ (right - p))
    return float(w[0]), float(w[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--links", type=Path, required=True)
    parser.add_argument(
        "--hold-out", nargs="*", default=PERSONAS, metavar="NAME", help="names of people never fitted on"
    )
    parser.add_argument("--rounds", type=int, default=1, help="the links found by one round set the next one's scene")
    a = parser.parse_args()
    parts, links = read_parts(a.folder), read_links(a.links)
    spoken = Counter(m.author_name.lower() for part in parts for m in part)
    skipped = {name.lower() for name in a.hold_out} | {name for name, n in spoken.items() if n < MIN_MESSAGES}
    weights = WEIGHTS
    fitted = views(parts, False, MASKED_SHARES) + quiet_views(parts, links, False)
    for number in range(a.rounds):
        values, numbers, truth = join([design(view, links, skipped, weights) for view in fitted])
        w = fit(values, numbers, truth)
        weights = as_weights(w)
        print(f"# round {number + 1}, fitted: {describe(values, numbers, truth, w)}", flush=True)
    held_out = {f"{share:.0%} of mentions removed": views(parts, True, (share,))[0] for share in MASKED_SHARES}
    for at_once, view in zip(QUIET_CONVERSATIONS, quiet_views(parts, links, True), strict=True):
        held_out[f"thinned to {at_once}"] = view
    told = []
    for name, view in held_out.items():
        print(f"# held-out parts, {name}: {describe(*design(view, links, skipped, weights), w)}", flush=True)
        told.append(confidences(view, links, skipped, weights))
    slope, shift = calibrate(np.concatenate(told))
    print(f"CALIBRATION_SLOPE = {slope:.2f}\nCALIBRATION_SHIFT = {shift:.2f}")
    for kind in ("reply", "own", "opening"):
        print(f"{kind.upper()}_WEIGHTS = {{")
        for signal, weight in getattr(weights, kind).items():
            print(f"    {signal.__module__.rpartition('.')[2]}.{signal.__name__}: {weight:.3f},")
        print("}")


def as_weights(w: np.ndarray) -> Weights:
    tables = {"reply": {}, "own": {}, "opening": {}}
    for kind, signal, weight in zip(KINDS, SIGNALS, w, strict=True):
        tables[kind][signal] = round(float(weight), 3)
    return Weights(**tables)


def join(designs: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, numbers, truth = zip(*designs, strict=True)
    offsets = np.cumsum([0, *(n[-1] + 1 for n in numbers[:-1])])
    moved = [n + offset for n, offset in zip(numbers, offsets, strict=True)]
    return np.concatenate(values), np.concatenate(moved), np.concatenate(truth)


if __name__ == "__main__":
    main()
