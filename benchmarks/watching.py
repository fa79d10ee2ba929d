# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/watching.py DATA/validation`: when does a Watch fire, and should it?

What is watched for, from a stream's start, are all meanings that it shows, and as many that it
never does, each in a held-out wording. Right is who first fires while it is shown, up to `LATE_S`
after it or `EARLY_S` before. Precision is of all that fire, recall of all that are shown.

With `until_not`, every annotation is watched for from `SETTLED_S` after its beginning: does that
fire when it ends (up to `CEASED_S` later), before, or later?
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
SETTLED_S, SHORTEST_S, CEASED_S = 1.2, 2.5, 2.0  # of annotations that are long enough
COLUMNS = {
    'precision': 'precision',
    'recall': 'recall',
    'absent': 'of what is never shown, fired',
    'delay_s': 'delay (s)',
    'early': '`until_not`: early',
    'late': 'late',
}


@dataclass(frozen=True)
class Watched:
    """A condition on one stream: scores (T,) at times (T,), and when it is shown, in seconds."""

    scores: NDArray[np.float32]
    at_s: NDArray[np.float64]
    spans_s: Sequence[tuple[float, float]]

    def fires_s(self, threshold: float, hops: int) -> float | None:
        """When it first was above the threshold so many times in a row."""
        return _first(self.scores >= threshold, self.at_s, hops)

    def ceases_s(self, threshold: float, hops: int) -> list[tuple[float, float]]:
        """(when `until_not` fires, inf for never; when it ought to), of each annotation."""
        found = list[tuple[float, float]]()
        for start_s, end_s in self.spans_s:
            if end_s - start_s >= SHORTEST_S:
                rest = slice(int(np.searchsorted(self.at_s, start_s + SETTLED_S)), None)
                below = self.scores[rest] < RELEASE * threshold
                fired_s = _first(below, self.at_s[rest], hops)
                found.append((float('inf') if fired_s is None else fired_s, end_s))
        return found

    def delay_s(self, fired_s: float) -> float | None:
        """After the beginning of what is shown then; None where nothing is."""
        found = [fired_s - a for a, b in self.spans_s if a - EARLY_S <= fired_s <= b + LATE_S]
        return min(found, default=None)


def _first(holds: NDArray[np.bool_], at_s: NDArray[np.float64], hops: int) -> float | None:
    row = np.convolve(holds, np.ones(hops, int), 'valid') if len(holds) >= hops else np.zeros(0)
    found = np.flatnonzero(row == hops)
    return float(at_s[found[0] + hops - 1]) if len(found) else None


def conditions(
    stream: Stream, known: Sequence[str], rng: np.random.Generator
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Texts, and when they are true of the stream."""
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
    """All conditions on all streams."""
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
    """One for each of `COLUMNS`."""
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
    """For a page of documentation."""
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
