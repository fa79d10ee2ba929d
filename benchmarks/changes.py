# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/changes.py DATA/validation`: compare rules of change detection.

Streams every recording once, then segments its embeddings with each rule of `change_rules`, at
many thresholds. A segment is labeled with the nearest training concept. Events are counted as in
the suite `events` (one-to-one within 1 s, correct sentences only). For every rule, the best
threshold on one half of the streams is evaluated on the other half, in both directions.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from change_rules import RULES, Rule
from common import add_split_arguments, open_streams, run, show
from numpy.typing import NDArray

from vljepa_ros.cli.common import add_model_arguments, load_model, note
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.protocols import Language, Vision
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.simulators.mwstream.meanings import is_right, meanings, sentences
from vljepa_ros.evaluate.matching import matched, near
from vljepa_ros.evaluate.plots import need_pyplot
from vljepa_ros.evaluate.segments import merged
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS, StreamEmbeddings, hops_of
from vljepa_ros.evaluate.views import centroid

WITHIN_S = 1.0
Counts = NDArray[np.float64]  # matched, matched by a correct sentence, predicted, true


@dataclass(frozen=True)
class Recording:
    """Annotations and embeddings of a stream."""

    truths: list[Annotation]
    hops: StreamEmbeddings


class Namer:
    """Labels a vector with the training concept whose paraphrases are nearest."""

    def __init__(self, language: Language) -> None:
        names = meanings()
        self._texts = [sentences(name)[0] for name in names]
        self._centroids = np.stack([centroid(language.encode(sentences(name))) for name in names])

    def name(self, vector: np.ndarray) -> str:
        """Return the first sentence of the nearest concept."""
        return self._texts[int(np.argmax(self._centroids @ vector))]


def watched(vision: Vision, stream: Stream) -> Recording:
    """Compute the embeddings of a stream."""
    return Recording(merged(stream.annotations), hops_of(vision, stream))


def counts(recording: Recording, starts: Sequence[int], namer: Namer) -> Counts:
    """Return counts (4,) for segments that start at these hops, without the first segment."""
    hops, truths = recording.hops, recording.truths[1:]
    bounds = [*starts, len(hops.vectors)]
    texts = [
        namer.name(hops.pooled(np.arange(a, b))) for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    at_s = [float(hops.stamps_ns[start]) / SECOND_NS for start in starts]
    options = near(at_s, [item.start for item in truths], WITHIN_S)
    right = [
        [j for j in row if is_right(truths[j].meaning, text)]
        for row, text in zip(options, texts, strict=True)
    ]
    return np.array([matched(options), matched(right), len(starts), len(truths)], float)


def table_of(rule: Rule, recordings: Sequence[Recording], namer: Namer) -> Counts:
    """Return the counts (thresholds, streams, 4) of a rule."""
    return np.array(
        [
            [counts(r, rule.cut(r.hops.vectors, threshold), namer) for r in recordings]
            for threshold in rule.thresholds
        ]
    )


def f1(found: Counts, which: int) -> NDArray[np.float64]:
    """Return the F1 of counts (..., 4); `which` is 0 for boundaries, 1 for labeled events."""
    return 2 * found[..., which] / np.maximum(found[..., 2] + found[..., 3], 1)


def judged(table: Counts) -> dict[str, float]:
    """Return the F1 of each half of the streams at the best threshold of the other half."""
    total = np.zeros(4)
    halves = (table[:, 0::2], table[:, 1::2])
    for own, other in (halves, halves[::-1]):
        best = int(np.argmax(f1(own.sum(axis=1), 1)))
        total += other[best].sum(axis=0)
    return {'labelled': float(f1(total, 1)), 'boundaries': float(f1(total, 0))}


def there() -> list[Rule]:
    """Return the rules whose packages are installed."""
    found = [rule for rule in RULES if not rule.needs or importlib.util.find_spec(rule.needs)]
    for rule in RULES:
        if rule not in found:
            note(f'{rule.name} needs {rule.needs}: pip install -r requirements/benchmarks.txt')
    return found


def compare(
    recordings: Sequence[Recording], namer: Namer, rules: Sequence[Rule]
) -> list[dict[str, Any]]:
    """Evaluate the rules; return them with curves over thresholds, the best first."""
    minutes = sum(r.hops.seconds for r in recordings) / 60
    rows = []
    for rule in rules:
        table = table_of(rule, recordings, namer)
        total = table.sum(axis=1)
        curve = {
            'threshold': list(rule.thresholds),
            'events_per_minute': (total[:, 2] / minutes).tolist(),
            'labelled': f1(total, 1).tolist(),
            'boundaries': f1(total, 0).tolist(),
        }
        rows.append({'rule': rule.name, 'online': rule.online, **judged(table), 'curve': curve})
    return sorted(rows, key=lambda row: -row['labelled'])


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the F1 of every rule as a table."""
    lines = [f'{"rule":<34}labeled   boundaries']
    for row in rows:
        name = row['rule'] + ('' if row['online'] else ' (offline)')
        lines.append(f'{name:<34}{row["labelled"]:.3f}     {row["boundaries"]:.3f}')
    return '\n'.join(lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the labeled F1 against the number of events per minute."""
    pyplot = need_pyplot()
    figure, panel = pyplot.subplots(figsize=(7, 4.6), layout='constrained')
    for row in rows:
        style = '-' if row['online'] else '--'
        curve = row['curve']
        width = 2.4 if row['rule'] == 'ours' else 1.2
        panel.plot(
            curve['events_per_minute'],
            curve['labelled'],
            style,
            linewidth=width,
            marker='.',
            label=row['rule'],
        )
    panel.set(xscale='log', xlabel='events per minute', ylabel='labeled F1', xlim=(1, None))
    panel.xaxis.set_major_formatter('{x:g}')
    panel.grid(alpha=0.3)
    panel.spines[['top', 'right']].set_visible(False)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    add_split_arguments(parser)
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the curves')
    add_model_arguments(parser)
    args = parser.parse_args()
    streams = open_streams(args.split, args.streams)
    model = load_model(args)
    assert model.vision is not None and model.language is not None
    recordings = [watched(model.vision, stream) for stream in streams]
    rows = compare(recordings, Namer(model.language), there())
    if args.plot:
        draw(rows, args.plot)
    found = {'split': str(args.split), 'streams': len(streams), 'rules': rows}
    show(args, model.facts, found, as_table(rows))


if __name__ == '__main__':
    sys.exit(run(main))
