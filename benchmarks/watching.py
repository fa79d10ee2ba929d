# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/watching.py DATA/validation`: evaluate precision, recall and delay of Watch.

The conditions, active from a stream's start, are all concepts that occur in the stream and as many
that do not, each in a held-out paraphrase. A condition is correct if it first fires while its
concept is true, up to `LATE_S` after it or `EARLY_S` before it. Precision is over all conditions
that fire, recall over all concepts that occur.

With `until_not`, a condition starts `SETTLED_S` after the start of each annotation. It should fire
when the annotation ends (up to `CEASED_S` later); earlier and later ones are counted separately.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import run, show, split_context
from numpy.typing import NDArray

from vljepa_ros.core.protocols import Language
from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.segments import merged
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS, hops_of
from vljepa_ros.query.watch_condition import RELEASE

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
HOPS = (2, 4, 6)
EARLY_S, LATE_S = 0.3, 1.0
SETTLED_S, SHORTEST_S, CEASED_S = 1.2, 2.5, 2.0  # applies to annotations of sufficient length
COLUMNS = {
    'precision': 'precision',
    'recall': 'recall',
    'absent': 'absent concepts that fire',
    'delay_s': 'delay (s)',
    'early': '`until_not`: early',
    'late': 'late',
}


@dataclass(frozen=True)
class Watched:
    """Condition on one stream: scores (T,) at times (T,), and spans (s) in which it is true."""

    scores: NDArray[np.float32]
    at_s: NDArray[np.float64]
    spans_s: Sequence[tuple[float, float]]

    def fires_s(self, threshold: float, hops: int) -> float | None:
        """Return the first time with `hops` consecutive scores above the threshold."""
        return _first(self.scores >= threshold, self.at_s, hops)

    def ceases_s(self, threshold: float, hops: int) -> list[tuple[float, float]]:
        """Return (time at which `until_not` fires or inf, expected time) of each annotation."""
        found = list[tuple[float, float]]()
        for start_s, end_s in self.spans_s:
            if end_s - start_s >= SHORTEST_S:
                rest = slice(int(np.searchsorted(self.at_s, start_s + SETTLED_S)), None)
                below = self.scores[rest] < RELEASE * threshold
                fired_s = _first(below, self.at_s[rest], hops)
                found.append((float('inf') if fired_s is None else fired_s, end_s))
        return found

    def delay_s(self, fired_s: float) -> float | None:
        """Return the delay after the start of the span at that time; None outside of spans."""
        found = [fired_s - a for a, b in self.spans_s if a - EARLY_S <= fired_s <= b + LATE_S]
        return min(found, default=None)


def _first(holds: NDArray[np.bool_], at_s: NDArray[np.float64], hops: int) -> float | None:
    row = np.convolve(holds, np.ones(hops, int), 'valid') if len(holds) >= hops else np.zeros(0)
    found = np.flatnonzero(row == hops)
    return float(at_s[found[0] + hops - 1]) if len(found) else None


def conditions(
    stream: Stream, known: Sequence[str], rng: np.random.Generator
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return texts with the spans in which they are true of the stream."""
    own = sorted({a.meaning for a in stream.annotations if a.meaning})
    others = [m for m in rng.permutation(known).tolist() if m not in own][: len(own)]
    return [
        (
            str(rng.choice(sentences(meaning, 'heldout'))),
            [(a.start, a.end) for a in merged(stream.annotations) if a.meaning == meaning],
        )
        for meaning in [*own, *others]
    ]


def watch(context: Context) -> list[Watched]:
    """Score all conditions on all streams."""
    rng, found = np.random.default_rng(0), list[Watched]()
    known = sorted({a.meaning for s in context.streams for a in s.annotations if a.meaning})
    language: Language = context.language
    for stream in context.watched('streams'):
        hops = hops_of(context.vision, stream)
        at_s = hops.stamps_ns / SECOND_NS
        for text, spans_s in conditions(stream, known, rng):
            found.append(Watched(language.similarity(hops.vectors, text), at_s, spans_s))
    return found


def marks(watched: Sequence[Watched], threshold: float, hops: int) -> dict[str, float]:
    """Compute the metrics named in `COLUMNS`."""
    fired = [(w, at_s) for w in watched if (at_s := w.fires_s(threshold, hops)) is not None]
    delays_s = [d for w, at_s in fired if (d := w.delay_s(at_s)) is not None]
    shown = sum(bool(w.spans_s) for w in watched)
    ceased = [pair for w in watched for pair in w.ceases_s(threshold, hops)]
    early = sum(at_s < end_s - EARLY_S for at_s, end_s in ceased)
    late = sum(at_s > end_s + CEASED_S for at_s, end_s in ceased)
    return {
        'precision': len(delays_s) / max(len(fired), 1),
        'recall': len(delays_s) / max(shown, 1),
        'absent': sum(not w.spans_s for w, _ in fired) / max(len(watched) - shown, 1),
        'delay_s': float(np.median(delays_s)) if delays_s else float('nan'),
        'early': early / max(len(ceased), 1),
        'late': late / max(len(ceased), 1),
    }


def as_table(rows: Sequence[dict[str, float]]) -> str:
    """Format a Markdown table for the documentation."""
    lines = [
        f'| threshold | `watch_hops` | {" | ".join(COLUMNS.values())} |',
        '|' + '---|' * (2 + len(COLUMNS)),
    ]
    for row in rows:
        cells = [f'{row[key]:.1f}' if key == 'delay_s' else f'{row[key]:.2f}' for key in COLUMNS]
        lines.append(f'| {row["threshold"]:g} | {row["hops"]:g} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure and print. Raises VljepaError."""
    args, context = split_context(__doc__)
    watched = watch(context)
    rows: list[dict[str, Any]] = [
        {'threshold': threshold, 'hops': hops, **marks(watched, threshold, hops)}
        for threshold, hops in itertools.product(THRESHOLDS, HOPS)
    ]
    found = {'split': str(args.split), 'conditions': len(watched), 'settings': rows}
    show(args, context.vision.facts, found, as_table(rows))


if __name__ == '__main__':
    sys.exit(run(main))
