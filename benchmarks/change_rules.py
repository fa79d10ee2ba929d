# SPDX-License-Identifier: Apache-2.0
"""Rules that cut a stream of embeddings into segments, each with one threshold.

A rule turns unit vectors (T, D) into the hops at which a segment begins, the first hop excepted.
Online rules look at no later hop than the one that settles a change; they date it back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from vljepa_ros.core.settings import LONGEST_RUN, SegmenterSettings
from vljepa_ros.core.types import Embedding, Reason, StreamKey
from vljepa_ros.stream.offline_segmenter import clustered
from vljepa_ros.stream.segmenter import Segmenter

Vectors = NDArray[np.float64]
HOP_NS = 200_000_000
SHORTEST = SegmenterSettings().min_segment_s * 1e9 / HOP_NS  # of every rule, in hops
CONFIRMED = SegmenterSettings().confirm_hops
NOISE_RATE = 0.02  # of the running estimates of noise


@dataclass(frozen=True)
class Rule:
    """A rule, the thresholds to try, and the package that it needs."""

    name: str
    online: bool
    cut: Callable[[Vectors, float], list[int]]
    thresholds: tuple[float, ...]
    needs: str = ''


def steps(low: float, high: float, count: int = 14) -> tuple[float, ...]:
    """From low to high, evenly in their logarithms."""
    return tuple(np.geomspace(low, high, count).round(4).tolist())


def ours(vectors: Vectors, threshold: float) -> list[int]:
    """The online form of Ward's criterion that the package has."""
    segmenter = Segmenter(SegmenterSettings(change_threshold=threshold, drift_threshold=2.0), '')
    key = StreamKey('', '', '')
    return [
        change.segment_start_ns // HOP_NS
        for n, vector in enumerate(vectors)
        for change in segmenter.push(Embedding(n * HOP_NS, 0, key, vector.astype(np.float32)))
        if change.reason is Reason.MEANING
    ]


def ward_alone(vectors: Vectors, threshold: float) -> list[int]:
    """Ward's cost of the newest run: no noise subtracted, and outliers not told from changes."""
    starts, start = [], 0
    for t in range(1, len(vectors)):
        costs = []
        for k in range(CONFIRMED, min(LONGEST_RUN, t - start) + 1):
            first = t + 1 - k
            if first - start < SHORTEST:
                continue
            before, run = vectors[start:first], vectors[first : t + 1]
            off = ((before.mean(axis=0) - run.mean(axis=0)) ** 2).sum()
            costs.append((len(before) * k / (len(before) + k) * off, first))
        cost, first = max(costs, default=(0.0, 0))
        if cost > threshold:
            starts.append(first)
            start = first
    return starts


def cosine(vectors: Vectors, threshold: float) -> list[int]:
    """The cosine distance to the segment's mean, for two hops in a row."""
    starts, total, far = [], vectors[0].copy(), 0
    start = 0
    for t in range(1, len(vectors)):
        distance = 1 - float(vectors[t] @ total) / max(float(np.linalg.norm(total)), 1e-12)
        far = far + 1 if distance > threshold else 0
        total += vectors[t]
        first = t + 1 - CONFIRMED
        if far >= CONFIRMED and first - start >= SHORTEST:
            starts.append(first)
            start, far, total = first, 0, vectors[first : t + 1].sum(axis=0)
    return starts


def variance(vectors: Vectors, threshold: float) -> list[int]:
    """The paper's online rule: the variance within a window; here where it peaks, above."""
    window = 8
    found = np.zeros(len(vectors))
    for t in range(1, len(vectors)):
        part = vectors[max(0, t + 1 - window) : t + 1]
        found[t] = ((part - part.mean(axis=0)) ** 2).sum(axis=1).mean()
    starts, start, above, peak = list[int](), 0, False, 0
    for t in range(1, len(vectors)):
        if found[t] > threshold:
            peak = t if not above or found[t] > found[peak] else peak
            above = True
        elif above:
            above = False
            first = peak + 1 - window // 2  # it is highest with the change in its middle
            if first - start >= SHORTEST:
                starts.append(first)
                start = first
    return starts


def cusum(vectors: Vectors, threshold: float) -> list[int]:
    """Page's cumulative sum of what lies farther off than twice the stream's noise."""
    starts, start, noise = list[int](), 0, 0.1
    total, count, score, since = vectors[0].copy(), 1, 0.0, 1
    for t in range(1, len(vectors)):
        off = float(((vectors[t] - total / count) ** 2).sum())
        score += off - 2 * noise
        noise += NOISE_RATE * (min(off, 4 * noise) - noise)
        total, count = total + vectors[t], count + 1
        if score > threshold and since - start >= SHORTEST:
            starts.append(since)
            start = since
            total, count = vectors[since : t + 1].sum(axis=0), t + 1 - since
            score, since = 0.0, t + 1
        elif score <= 0 or score > threshold:
            score, since = 0.0, t + 1
    return starts


def bayesian(vectors: Vectors, threshold: float) -> list[int]:
    """Bayesian online change points (Adams and MacKay, arXiv 0710.3742).

    Means are Gaussian around the stream's, observations around their segment's mean; embeddings
    have far fewer dimensions than values, so the likelihood is tempered: `threshold` is the
    squared distance that counts for one unit of evidence. A segment begins where the likeliest run
    does, once that is younger than the one before by more than it has aged.
    """
    hazard, longest, spread = 1 / 25, 3000, 0.5  # no run is longer than ten minutes
    mean = np.zeros_like(vectors[0])
    sums, counts = mean[None].copy(), np.zeros(1)
    log_run = np.zeros(1)
    starts, start = list[int](), 0
    for t, vector in enumerate(vectors):
        posterior = sums / (counts + 1 / spread)[:, None]
        fit = -((vector - posterior) ** 2).sum(axis=1) / (2 * threshold)
        joint = log_run + fit
        grown = joint + math.log(1 - hazard)
        begun = logsumexp(joint) + math.log(hazard)
        log_run = np.append(begun, grown)[:longest]
        log_run -= logsumexp(log_run)
        sums = np.vstack([mean, sums + vector])[:longest]
        counts = np.append(0, counts + 1)[:longest]
        first = t + 1 - int(np.argmax(log_run[CONFIRMED:]) + CONFIRMED) if t >= CONFIRMED else 0
        if first - start >= SHORTEST:
            starts.append(first)
            start = first
    return starts


def offline_ward(vectors: Vectors, threshold: float) -> list[int]:
    """The paper's offline rule, cut by what a join costs."""
    return [int(part[0]) for part in clustered(vectors, threshold=threshold)[1:]]


def offline_pelt(vectors: Vectors, threshold: float) -> list[int]:
    """The cheapest cut of all, where a segment costs `threshold` (ruptures' PELT)."""
    import ruptures

    found = ruptures.KernelCPD(kernel='linear', min_size=CONFIRMED).fit(vectors)
    return list(found.predict(pen=threshold))[:-1]


RULES = (
    Rule('ours', True, ours, steps(0.2, 6)),
    Rule("Ward's cost alone", True, ward_alone, steps(0.2, 6)),
    Rule('cosine to the mean', True, cosine, steps(0.05, 1.0)),
    Rule("windowed variance (the paper's)", True, variance, steps(0.01, 0.8)),
    Rule('cumulative sum', True, cusum, steps(0.2, 6)),
    Rule('Bayesian change points', True, bayesian, steps(0.01, 0.5)),
    Rule('Ward', False, offline_ward, steps(0.2, 6), 'sklearn'),
    Rule('PELT', False, offline_pelt, steps(0.2, 6), 'ruptures'),
)
