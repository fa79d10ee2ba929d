# SPDX-License-Identifier: Apache-2.0
"""Decode rules of the suite selective: selection of the embeddings that are decoded to texts.

A rule selects or pools embeddings of one stream and returns them as `Decodes`: vectors (N, D),
sorted by time. The rule of the VL-JEPA paper (arXiv 2512.10942, section 4.3) is offline: Ward
clustering of neighbors divides a whole stream into N segments, and the mean embedding of each
segment is decoded. The online rule is change detection (`vljepa_ros.stream.segmenter`).
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
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS, Indices, Stamps, StreamEmbeddings
from vljepa_ros.evaluate.views import Vectors
from vljepa_ros.stream.offline_segmenter import clustered
from vljepa_ros.stream.segmenter import Segmenter

# Budgets as seconds per decode; 0 is one decode per hop.
PERIODS_S = (0.0, 1.0, 2.85, 5.0, 10.0, 30.0, 100.0)
MOST_DRIFT = 2.0  # maximum cosine distance of unit vectors
ROUNDING = 1e-6
DEFAULT_THRESHOLD = SegmenterSettings().change_threshold
STRICTEST, GROWTH = 2.0, 1.5  # chosen on six validation streams of ten minutes
LOWEST_THRESHOLD, HALVINGS = 1e-3, 12  # to within 0.3%
KEY = StreamKey('stream', '', '')


@dataclass(frozen=True)
class Decodes:
    """Vectors of one stream that a rule decodes.

    `vectors`: (N, D). `at_ns`: time (N,) of each vector: the stamp of its newest frame, or the
    middle of the pooled span. `emitted_ns`: stamp (N,) of the newest frame that the rule needs
    before it can emit the vector; None if the rule needs the whole stream.
    """

    vectors: Vectors
    at_ns: Stamps
    emitted_ns: Stamps | None = None


def our_settings(threshold: float) -> SegmenterSettings:
    """Return the segmenter settings of our rule for a threshold of 0..HIGHEST_THRESHOLD.

    Above the default threshold, `drift_threshold` increases in proportion; below it, only
    `change_threshold` decreases. Above `STRICTEST`, `change_threshold` is constant and
    `min_segment_s` increases: at small budgets, evenly spaced decodes describe a stream better
    than its largest changes.
    """
    defaults = SegmenterSettings()
    higher = max(threshold / defaults.change_threshold, 1.0)
    return replace(
        defaults,
        change_threshold=min(threshold, STRICTEST),
        drift_threshold=min(defaults.drift_threshold * higher, MOST_DRIFT),
        min_segment_s=defaults.min_segment_s * max(threshold / STRICTEST, 1.0) ** GROWTH,
    )


def online(hops: StreamEmbeddings, threshold: float) -> Decodes:
    """Return the decodes of change detection (`Segmenter`), which does not look ahead.

    There is one per segment start and one per update. `our_settings` derives all thresholds from
    `threshold`.
    """
    return by_settings(hops, our_settings(threshold))


def by_settings(hops: StreamEmbeddings, settings: SegmenterSettings) -> Decodes:
    """Return the decodes of change detection with settings: one per segment start and update.

    The end of a segment does not cause a decode: the segment keeps its last text.
    """
    segmenter, before_ns = Segmenter(settings, 'selective'), int(hops.stamps_ns[0])
    changes, at_ns = list[Change](), list[int]()
    for number, (stamp_ns, vector) in enumerate(
        zip(hops.stamps_ns.tolist(), hops.vectors, strict=True)
    ):
        found = segmenter.push(Embedding(stamp_ns, before_ns, KEY, vector))
        before_ns = stamp_ns  # the segmenter drops no hop in between
        for change in found:
            changes.append(change)
            at_ns.append(stamp_ns)
            if change.reason is Reason.DRIFT:  # the mean of an update excludes the newest hops
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


def end_to_end(streams: Sequence[StreamEmbeddings], seconds: float) -> list[StreamEmbeddings]:
    """Concatenate streams into longer streams of at least `seconds`; the last may be shorter."""
    found, parts = list[StreamEmbeddings](), list[StreamEmbeddings]()
    for number, hops in enumerate(streams, 1):
        parts.append(hops)
        if sum(part.seconds for part in parts) >= seconds - ROUNDING or number == len(streams):
            begun_s = np.cumsum([0.0, *(part.seconds for part in parts)])
            stamps_ns = [
                part.stamps_ns + round(at_s * SECOND_NS)
                for part, at_s in zip(parts, begun_s[:-1], strict=True)
            ]
            vectors = np.concatenate([part.vectors for part in parts])
            found.append(StreamEmbeddings(vectors, np.concatenate(stamps_ns)))
            parts = []
    return found


def uniform(hops: StreamEmbeddings, count: int) -> Decodes:
    """Select the middle hop of each of `count` equal parts (the earlier of two middle hops)."""
    middle = [part[(len(part) - 1) // 2] for part in equal_parts(hops, count)]
    stamps_ns = hops.stamps_ns[middle]
    return Decodes(hops.vectors[middle], stamps_ns, stamps_ns)


def pooled(hops: StreamEmbeddings, count: int) -> Decodes:
    """Select the mean embedding of each of `count` equal parts, emitted at the end of the part."""
    return mean_of(hops, equal_parts(hops, count), emitted=True)


def moving(hops: StreamEmbeddings, motion: Motion, count: int) -> Decodes:
    """Select the first hop after each of at most `count` peaks of motion energy."""
    found = np.unique(hops.not_before(motion.moments(count)))
    return Decodes(hops.vectors[found], hops.stamps_ns[found])


def ward(hops: StreamEmbeddings, count: int) -> Decodes:
    """Select the mean embedding of each of `count` Ward segments (the rule of the paper)."""
    return mean_of(hops, clustered(hops.vectors, count), emitted=False)


def within(hops: StreamEmbeddings, spans_s: Sequence[tuple[float, float]]) -> Decodes:
    """Select the mean embedding of each span (start, end in s), timed at the span's middle."""
    spans_s = sorted(spans_s, key=sum)
    vectors = np.stack([hops.pooled(hops.within(*span)) for span in spans_s])
    return Decodes(vectors, np.array([middle_ns(*span) for span in spans_s], np.int64))


def middle_ns(start_s: float, end_s: float) -> int:
    """Return the middle, in nanoseconds, of a span in seconds."""
    return round((start_s + end_s) / 2 * SECOND_NS)


def mean_of(hops: StreamEmbeddings, parts: Sequence[Indices], emitted: bool) -> Decodes:
    """Select the mean embedding of each group of hops, timed midway between its ends.

    Args:
        hops: Embeddings of one stream.
        parts: Sorted hop indices of each group.
        emitted: Whether a group is emitted at its last stamp; otherwise the rule is offline.
    """
    stamps_ns = hops.stamps_ns
    first, last = (stamps_ns[[part[i] for part in parts]] for i in (0, -1))
    vectors = np.stack([hops.pooled(part) for part in parts])
    return Decodes(vectors, (first + last) // 2, last if emitted else None)


def equal_parts(hops: StreamEmbeddings, count: int) -> list[Indices]:
    """Return the indices of all hops, divided into `count` runs of nearly equal length."""
    return np.array_split(np.arange(len(hops.stamps_ns)), count)


def named(period_s: float) -> str:
    """Return the name, such as '1/5 s', of a budget of one decode per `period_s`.

    A period of 0 means every hop.
    """
    return f'1/{period_s:g} s' if period_s else 'every hop'


def allowed(hops: StreamEmbeddings, period_s: float) -> int:
    """Return the number of decodes in a budget of one per `period_s` (0: every hop); minimum 1."""
    count = len(hops.stamps_ns)
    return min(count, max(1, int(hops.seconds / period_s + ROUNDING))) if period_s else count


def thresholds_within(
    streams: Sequence[StreamEmbeddings], periods_s: Iterable[float], share: float = 1.0
) -> dict[float, float]:
    """Return, for each period, the lowest threshold that spends at most a `share` of its budget.

    The budget of a period (seconds) is one decode per period.

    Decodes are counted over all streams. The search is a bisection on a logarithmic scale: the
    number of decodes decreases with the threshold, except for small fluctuations. If no threshold
    is sufficient, the result is the highest one.
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
