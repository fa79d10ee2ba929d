# SPDX-License-Identifier: Apache-2.0
"""Rules that divide a stream of embeddings into segments, each with one threshold.

A rule converts unit vectors (T, D) to the hops at which segments start, except the first hop.
Online rules use no hop after the one that confirms a change; the change itself is dated back.
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
SHORTEST = (
    SegmenterSettings().min_segment_s * 1e9 / HOP_NS
)  # minimum segment of every rule, in hops
CONFIRMED = SegmenterSettings().confirm_hops
NOISE_RATE = 0.02  # update rate of the running noise estimates


@dataclass(frozen=True)
class Rule:
    """Rule with the thresholds to try and the package that it needs."""

    name: str
    online: bool
    cut: Callable[[Vectors, float], list[int]]
    thresholds: tuple[float, ...]
    needs: str = ''


def steps(low: float, high: float, count: int = 14) -> tuple[float, ...]:
    """Return values from low to high, evenly spaced on a logarithmic scale."""
    return tuple(np.geomspace(low, high, count).round(4).tolist())


def ours(vectors: Vectors, threshold: float) -> list[int]:
    """Apply the package's online form of Ward's criterion."""
    segmenter = Segmenter(SegmenterSettings(change_threshold=threshold, drift_threshold=2.0), '')
    key = StreamKey('', '', '')
    return [
        change.segment_start_ns // HOP_NS
        for n, vector in enumerate(vectors)
        for change in segmenter.push(Embedding(n * HOP_NS, 0, key, vector.astype(np.float32)))
        if change.reason is Reason.MEANING
    ]


def ward_alone(vectors: Vectors, threshold: float) -> list[int]:
    """Apply Ward's cost of the newest run without noise subtraction and outlier rejection."""
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
    """Apply the cosine distance to the segment's mean, for two consecutive hops."""
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
    """Apply the paper's online rule: peaks of the variance within a window."""
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
            first = (
                peak + 1 - window // 2
            )  # the variance peaks with the change in the window's middle
            if first - start >= SHORTEST:
                starts.append(first)
                start = first
    return starts


def cusum(vectors: Vectors, threshold: float) -> list[int]:
    """Apply Page's cumulative sum of distances above twice the stream's noise."""
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
    """Apply Bayesian online change point detection (Adams and MacKay, arXiv 0710.3742).

    Segment means are Gaussian around the stream's mean, observations are Gaussian around their
    segment's mean. The intrinsic dimension of embeddings is far below their number of values, so
    the likelihood is tempered: `threshold` is the squared distance of one unit of evidence. A new
    segment starts if the likeliest run starts at least the minimum length after the current one.
    """
    hazard, longest, spread = 1 / 25, 3000, 0.5  # maximum run: ten minutes
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
    """Apply the paper's offline rule (Ward), with a threshold on the merge cost."""
    return [int(part[0]) for part in clustered(vectors, threshold=threshold)[1:]]


def offline_pelt(vectors: Vectors, threshold: float) -> list[int]:
    """Return the optimal segmentation with the penalty `threshold` (PELT of ruptures)."""
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
