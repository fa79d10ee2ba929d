# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/segmenter.py DATA/validation`: compare thresholds of change detection.

Streams every recording once, then segments its embeddings with each setting and decodes texts with
the Y-Decoder. Events are counted as in the suite `events`. CIDEr-D and decodes are computed as in
`selective`, as fractions of those at one decode per second.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from common import run, show, split_context
from numpy.typing import NDArray

from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Embedding
from vljepa_ros.data import concepts
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decode_rules import KEY, Decodes, allowed, by_settings, middle_ns, uniform
from vljepa_ros.evaluate.decoded_texts import CachedDecoder, decoder_of
from vljepa_ros.evaluate.document_frequencies import references, scorer
from vljepa_ros.evaluate.segments import joined, merged
from vljepa_ros.evaluate.stream_embeddings import StreamEmbeddings, hops_of, nearest
from vljepa_ros.evaluate.suites.events import (
    FIRST_TEXTS,
    OURS,
    StreamEvents,
    count,
    matches,
    text_events,
)
from vljepa_ros.stream.segmenter import Segmenter
from vljepa_ros.stream.text_events import EventWriter

GRID: dict[str, tuple[float, ...]] = {
    'change_threshold': (1.0, 1.2, 1.4, 1.7, 2.0),
    'drift_threshold': (0.1, 0.15, 0.2, 0.3),
}
COLUMNS = {
    'kept': 'CIDEr-D kept',
    'decodes': 'decodes',
    'labelled': 'labeled F1',
    'first_words': 'first texts',
    'boundaries': 'boundary F1',
    'delay_s': 'delay (s)',
}
BASELINE_S = 1.0  # seconds per decode

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """Stream with its embeddings."""

    stream: Stream
    hops: StreamEmbeddings


class Judge:
    """Evaluates settings on all recordings."""

    def __init__(self, recordings: Sequence[Recording], decoder: CachedDecoder) -> None:
        self._recordings, self._decoder = recordings, decoder
        streams = [r.stream for r in recordings]
        self._concepts = concepts.of(streams)
        cider, _ = scorer(streams)
        self._worth = cache(cider.score)
        plans = [uniform(r.hops, allowed(r.hops, BASELINE_S)) for r in recordings]
        self._baseline = self._cider(plans)
        self._decodes = sum(len(plan.at_ns) for plan in plans)

    def marks(self, settings: SegmenterSettings) -> dict[str, float]:
        """Compute the metrics named in `COLUMNS`."""
        plans = [by_settings(r.hops, settings) for r in self._recordings]
        self._decoder.texts(np.concatenate([plan.vectors for plan in plans]))  # in one batch
        found = [self._events_of(r, settings) for r in self._recordings]
        delays_s = [
            stream.segments[predicted].first_text_s - stream.starts_s[true]
            for stream in found
            for predicted, true in matches(stream, OURS, labeled=True)
        ]
        return {
            'kept': self._cider(plans) / self._baseline if self._baseline else float('nan'),
            'decodes': sum(len(plan.at_ns) for plan in plans) / self._decodes,
            'labelled': _f1(count(found, OURS, labeled=True)),
            'first_words': _f1(count(found, FIRST_TEXTS, labeled=True)),
            'boundaries': _f1(count(found, OURS, labeled=False)),
            'delay_s': float(np.median(delays_s)) if delays_s else float('nan'),
        }

    def _cider(self, plans: Sequence[Decodes]) -> float:
        """Return the mean CIDEr-D over annotations, each with its nearest decode."""
        found = list[float]()
        for recording, plan in zip(self._recordings, plans, strict=True):
            items = recording.stream.annotations
            middles_ns = np.array([middle_ns(a.start, a.end) for a in items], np.int64)
            vectors = plan.vectors[nearest(plan.at_ns, middles_ns)]
            for item, text in zip(items, self._decoder.texts(vectors), strict=True):
                found.append(self._worth(text, references(self._concepts, item.meaning)))
        return float(np.mean(found))

    def _events_of(self, recording: Recording, settings: SegmenterSettings) -> StreamEvents:
        segmenter = Segmenter(settings, 'tune')
        writer = EventWriter(self._decoder)  # type: ignore[arg-type]
        key, changes = replace(KEY, model_id=self._decoder.facts.model_id), []
        stamps_ns = recording.hops.stamps_ns.tolist()
        for before_ns, stamp_ns, vector in zip(
            [stamps_ns[0], *stamps_ns], stamps_ns, recording.hops.vectors
        ):
            changes += segmenter.push(Embedding(stamp_ns, before_ns, key, vector))
        events = [event for c in [*changes, *segmenter.end()] for event in writer.push(c)]
        segments = tuple(joined(events, 0))[1:]
        starts_s = [segment.start_s for segment in segments]
        texts = {
            OURS: text_events(starts_s, [segment.text for segment in segments]),
            FIRST_TEXTS: text_events(starts_s, [segment.first_text for segment in segments]),
        }
        annotations = merged(recording.stream.annotations)
        return StreamEvents(recording.stream.name, annotations, segments, texts, self._concepts)


def _f1(counts: Values) -> float:
    """Return the F1 of counts (S, 3): matched, predicted and true events."""
    matched, told, true = counts.sum(axis=0)
    return float(2 * matched / max(told + true, 1.0))


def sweep(judge: Judge, context: Context) -> list[dict[str, float]]:
    """Compute the metrics of every setting."""
    settings = [
        dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())
    ]
    return [
        {**chosen, **judge.marks(SegmenterSettings(**chosen))}
        for chosen in context.each(settings, 'settings')
    ]


def as_table(rows: Sequence[dict[str, float]]) -> str:
    """Format a Markdown table for the documentation, with the defaults highlighted."""
    names = [f'`{name}`' for name in GRID] + list(COLUMNS.values())
    lines = [f'| {" | ".join(names)} |', '|' + '---|' * len(names)]
    defaults = [getattr(SegmenterSettings(), name) for name in GRID]
    for row in rows:
        chosen = [row[name] for name in GRID]
        cells = [f'**{v:g}**' if chosen == defaults else f'{v:g}' for v in chosen]
        cells += [f'{row[key]:.3f}' if key != 'delay_s' else f'{row[key]:.1f}' for key in COLUMNS]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure and print. Raises VljepaError."""
    args, context = split_context(__doc__)
    recordings = [Recording(s, hops_of(context.vision, s)) for s in context.watched('streams')]
    rows = sweep(Judge(recordings, decoder_of(context)), context)
    found: dict[str, Any] = {
        'split': str(args.split),
        'streams': len(recordings),
        'settings': rows,
    }
    show(args, context.vision.facts, found, as_table(rows))


if __name__ == '__main__':
    sys.exit(run(main))
