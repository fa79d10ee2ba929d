# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/segmenter.py DATA/validation`: which settings of change detection do best?

Streams every recording once, then segments its embeddings under each setting. A segment is named
by the nearest training meaning; an event counts as in `vljepa demo` (right object and action,
onset within 1.5 s, one-to-one). Prints the best settings by F1 as a table, with --json all.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import run, show

from vljepa_ros.cli.common import add_model_arguments, load_model, note
from vljepa_ros.cli.grading import Marks, Said, Truth, grade
from vljepa_ros.cli.main import Parser
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.data.mwstream.meanings import meanings, sentences
from vljepa_ros.errors import InputError
from vljepa_ros.evaluate.segments import merged
from vljepa_ros.evaluate.views import centre
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.perceiver import Perceiver
from vljepa_ros.stream.segmenter import Segmenter
from vljepa_ros.stream.settings import SegmenterSettings
from vljepa_ros.stream.types import Embedding, Frame

GRID: dict[str, tuple[Any, ...]] = {
    'change_threshold': (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7),
    'confirm_hops': (1, 2, 3),
    'min_segment_s': (0.4, 0.6, 0.8, 1.0),
}
SHOWN = 15


@dataclass(frozen=True)
class Recording:
    """What was true in a stream, and what the model saw."""

    truths: list[Truth]
    embeddings: list[Embedding]


class Namer:
    """Names a vector by the training meaning whose wordings are nearest."""

    def __init__(self, language: Language) -> None:
        names = meanings()
        self._texts = [sentences(name)[0] for name in names]
        self._centroids = np.stack([centre(language.encode(sentences(name))) for name in names])

    def name(self, vector: np.ndarray) -> str:
        """The meaning's first wording."""
        return self._texts[int(np.argmax(self._centroids @ vector))]


def truths(stream: Stream) -> list[Truth]:
    """Annotations, neighbours of equal meaning as one."""
    return [Truth(a.start, a.end, a.meaning, '') for a in merged(stream.annotations)]


def hops(stream: Stream, perceiver: Perceiver) -> list[Embedding]:
    """All embeddings of a stream; times from its start."""
    perceiver.reset()
    start_ns = int(stream.stamps_ns()[0])
    return [
        embedding
        for stamp_ns, image in zip(stream.stamps_ns(), stream.frames(), strict=True)
        for embedding in perceiver.push(Frame(int(stamp_ns) - start_ns, np.asarray(image)))
    ]


def open_streams(folder: Path, limit: int) -> Sequence[Stream]:
    """The first `limit` whole streams of a split, or all (0). Raises InputError."""
    if limit < 0:
        raise InputError(f'--streams ({limit}) is negative')
    split = open_split(folder)
    for name, reason in split.skipped:
        note(f'skipped {name}: {reason}')
    if not split.streams:
        raise InputError(f'{folder}: no whole stream')
    return split.streams[: limit or None]


def say(embeddings: list[Embedding], settings: SegmenterSettings, namer: Namer) -> list[Said]:
    """The segments of a recording under one setting, named."""
    segmenter = Segmenter(settings, 'tune')
    changes = [c for e in embeddings for c in segmenter.push(e)] + segmenter.end()
    return [
        Said(c.previous.start_ns / 1e9, c.previous.end_ns / 1e9, namer.name(c.previous_vector))
        for c in changes
        if c.previous is not None and c.previous_vector is not None
    ]


def sweep(recordings: list[Recording], namer: Namer) -> list[dict[str, Any]]:
    """The marks of every setting, the best F1 first."""
    rows = []
    for values in itertools.product(*GRID.values()):
        chosen = dict(zip(GRID, values, strict=True))
        settings = SegmenterSettings(**chosen)
        each = [grade(say(r.embeddings, settings, namer), r.truths) for r in recordings]
        total = Marks(*(sum(n) for n in zip(*((m.matched, m.said, m.true) for m in each))))
        marks = {'f1': total.f1, 'precision': total.precision, 'recall': total.recall}
        rows.append({**marks, **chosen})
    return sorted(rows, key=lambda row: -row['f1'])


def as_table(rows: list[dict[str, Any]]) -> str:
    """The best of them."""
    lines = ['F1     precision recall  ' + '  '.join(GRID)]
    for row in rows[:SHOWN]:
        values = '  '.join(f'{row[key]:<{len(key)}g}' for key in GRID)
        lines.append(f'{row["f1"]:.3f}  {row["precision"]:.3f}     {row["recall"]:.3f}   {values}')
    return '\n'.join(line.rstrip() for line in lines)


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    parser.add_argument('split', type=Path)
    parser.add_argument(
        '--streams', type=int, default=0, metavar='N', help='only the first N streams (0: all)'
    )
    add_model_arguments(parser)
    args = parser.parse_args()
    streams = open_streams(args.split, args.streams)
    model = load_model(args)
    assert model.eyes is not None and model.language is not None
    perceiver = Perceiver(model.eyes)
    recordings = [Recording(truths(stream), hops(stream, perceiver)) for stream in streams]
    rows = sweep(recordings, Namer(model.language))
    found = {'split': str(args.split), 'streams': len(streams), 'settings': rows}
    show(args, model.facts, found, as_table(rows))


if __name__ == '__main__':
    sys.exit(run(main))
