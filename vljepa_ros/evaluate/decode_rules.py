# SPDX-License-Identifier: Apache-2.0
"""Which embeddings of a stream are put into words: the rules that the suite selective compares.

Each turns the hops of one stream into its decodes, (N, D) vectors in the order of time. The
paper's own (arXiv 2512.10942, section 4.3) is offline: Ward's clustering of neighbours cuts a
whole stream into N segments, and the mean of each is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from vljepa_ros.core.settings import HIGHEST_THRESHOLD, LONGEST_RUN, SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Reason, StreamKey
from vljepa_ros.evaluate.motion import Motion
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS, Hops, Indices, Stamps
from vljepa_ros.evaluate.views import Vectors
from vljepa_ros.stream.offline_segmenter import clustered
from vljepa_ros.stream.segmenter import Segmenter

# Budgets: one decode in so long; 0 is one a hop.
PERIODS_S = (0.0, 1.0, 2.85, 5.0, 10.0, 30.0, 100.0)
MOST_DRIFT = 2.0  # two unit vectors are no farther apart
ROUNDING = 1e-6
DEFAULT_THRESHOLD = SegmenterSettings().change_threshold
STRICTEST, GROWTH = 2.0, 1.5  # chosen on validation, by its six streams of ten minutes
LOWEST_THRESHOLD, HALVINGS = 1e-3, 12  # to within 0.3%
KEY = StreamKey('stream', '', '')


@dataclass(frozen=True)
class Decodes:
    """What one rule decodes of one stream.

    vectors: (N, D). at_ns: (N,) a decode's time: its newest frame, or the middle of what is pooled
    offline. emitted_ns: (N,) the newest frame that had to be seen for it; None where the
    rule has to see the whole stream.
    """

    vectors: Vectors
    at_ns: Stamps
    emitted_ns: Stamps | None = None


def our_settings(threshold: float) -> SegmenterSettings:
    """Our change detection at one threshold, 0..HIGHEST_THRESHOLD.

    Above the default, the threshold of updates rises in proportion; what is below is for changes.
    Beyond `STRICTEST` changes stay as they are, and it is the shortest segment that grows: who may
    say little says more of a stream at some distances than of its greatest changes.
    """
    defaults = SegmenterSettings()
    higher = max(threshold / defaults.change_threshold, 1.0)
    return replace(
        defaults,
        change_threshold=min(threshold, STRICTEST),
        drift_threshold=min(defaults.drift_threshold * higher, MOST_DRIFT),
        min_segment_s=defaults.min_segment_s * max(threshold / STRICTEST, 1.0) ** GROWTH,
    )


def online(hops: Hops, threshold: float) -> Decodes:
    """Ours, at one threshold."""
    return by_settings(hops, our_settings(threshold))


def by_settings(hops: Hops, settings: SegmenterSettings) -> Decodes:
    """Ours: one decode where a segment begins (the first one too), and one an update.

    A segment ends in the words that were last said of it: that is no decode.
    """
    segmenter, before_ns = Segmenter(settings, 'selective'), int(hops.stamps_ns[0])
    changes, at_ns = list[Change](), list[int]()
    for number, (stamp_ns, vector) in enumerate(
        zip(hops.stamps_ns.tolist(), hops.vectors, strict=True)
    ):
        found = segmenter.push(Embedding(stamp_ns, before_ns, KEY, vector))
        before_ns = stamp_ns  # nothing is forgotten in between
        for change in found:
            changes.append(change)
            at_ns.append(stamp_ns)
            if change.reason is Reason.DRIFT:  # its mean leaves out what is newest
                begun_ns = found[-1].segment_start_ns
                settled = number - LONGEST_RUN
                is_over = found[-1] is not change
                newest = np.searchsorted(hops.stamps_ns, begun_ns) - 1 if is_over else settled
                at_ns[-1] = int(hops.stamps_ns[newest])
    last = [change for change in segmenter.end() if change.reason is not Reason.END]
    emitted_ns = [change.stamp_ns for change in [*changes, *last]]
    return Decodes(
        np.stack([change.vector for change in [*changes, *last]]),
        np.array([*at_ns, *(change.stamp_ns for change in last)], np.int64),
        np.array(emitted_ns, np.int64),
    )


def end_to_end(streams: Sequence[Hops], seconds: float) -> list[Hops]:
    """Streams one after the other, as few as are `seconds` long each; the last may be shorter."""
    found, parts = list[Hops](), list[Hops]()
    for number, hops in enumerate(streams, 1):
        parts.append(hops)
        if sum(part.seconds for part in parts) >= seconds - ROUNDING or number == len(streams):
            begun_s = np.cumsum([0.0, *(part.seconds for part in parts)])
            stamps_ns = [
                part.stamps_ns + round(at_s * SECOND_NS)
                for part, at_s in zip(parts, begun_s[:-1], strict=True)
            ]
            vectors = np.concatenate([part.vectors for part in parts])
            found.append(Hops(vectors, np.concatenate(stamps_ns)))
            parts = []
    return found


def uniform(hops: Hops, count: int) -> Decodes:
    """The hop in the middle of each of `count` equal parts, of two the earlier."""
    middle = [part[(len(part) - 1) // 2] for part in equal_parts(hops, count)]
    stamps_ns = hops.stamps_ns[middle]
    return Decodes(hops.vectors[middle], stamps_ns, stamps_ns)


def pooled(hops: Hops, count: int) -> Decodes:
    """The mean of each of `count` equal parts, which is known at the part's end."""
    return mean_of(hops, equal_parts(hops, count), emitted=True)


def moving(hops: Hops, motion: Motion, count: int) -> Decodes:
    """The first hop after each of the moments of most motion, of at most `count`."""
    found = np.unique(hops.not_before(motion.moments(count)))
    return Decodes(hops.vectors[found], hops.stamps_ns[found])


def ward(hops: Hops, count: int) -> Decodes:
    """The mean of each of `count` segments of the whole stream: the paper's."""
    return mean_of(hops, clustered(hops.vectors, count), emitted=False)


def within(hops: Hops, spans_s: Sequence[tuple[float, float]]) -> Decodes:
    """The mean of each given span, whose time is the span's middle: the oracle's."""
    spans_s = sorted(spans_s, key=sum)
    vectors = np.stack([hops.pooled(hops.within(*span)) for span in spans_s])
    return Decodes(vectors, np.array([middle_ns(*span) for span in spans_s], np.int64))


def middle_ns(start_s: float, end_s: float) -> int:
    """The middle of a span in nanoseconds."""
    return round((start_s + end_s) / 2 * SECOND_NS)


def mean_of(hops: Hops, parts: Sequence[Indices], emitted: bool) -> Decodes:
    """The mean of each part, at the middle between its first and its last stamp."""
    stamps_ns = hops.stamps_ns
    first, last = (stamps_ns[[part[i] for part in parts]] for i in (0, -1))
    vectors = np.stack([hops.pooled(part) for part in parts])
    return Decodes(vectors, (first + last) // 2, last if emitted else None)


def equal_parts(hops: Hops, count: int) -> list[Indices]:
    """All hops in `count` parts, as equal as they can be."""
    return np.array_split(np.arange(len(hops.stamps_ns)), count)


def named(period_s: float) -> str:
    """What a budget is called."""
    return f'1/{period_s:g} s' if period_s else 'every hop'


def allowed(hops: Hops, period_s: float) -> int:
    """How many decodes are at most one in `period_s` (0: every hop); of any stream, one."""
    count = len(hops.stamps_ns)
    return min(count, max(1, int(hops.seconds / period_s + ROUNDING))) if period_s else count


def thresholds_within(
    streams: Sequence[Hops], periods_s: Iterable[float], share: float = 1.0
) -> dict[float, float]:
    """For each budget the lowest threshold at which ours spends at most a `share` of it.

    Over all the streams together. Found by halving, on a scale of ratios: decodes become fewer as
    the threshold rises, but for ripples. Where none spends so little, the highest.
    """

    @cache
    def spent(threshold: float) -> int:
        return sum(len(online(hops, threshold).at_ns) for hops in streams)

    def lowest(budget: float) -> float:
        if spent(0.0) <= budget:
            return 0.0
        low, high = LOWEST_THRESHOLD, HIGHEST_THRESHOLD
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if spent(middle) <= budget else (middle, high)
        return high

    return {p: lowest(share * sum(allowed(hops, p) for hops in streams)) for p in periods_s}
