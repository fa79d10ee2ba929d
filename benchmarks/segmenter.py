# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/segmenter.py DATA/validation`: which settings of change detection do best?

Streams every recording once, then segments its embeddings under each setting. A segment is named
by the nearest training meaning; an event counts as in `vljepa demo` (right object and action,
onset within 1.5 s, one-to-one). Prints the best settings by F1, as a table.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vljepa_ros.cli.grading import Said, Truth, grade
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.data.mwstream.meanings import meanings, sentences
from vljepa_ros.model.registry import load
from vljepa_ros.stream.perceiver import Perceiver, unit
from vljepa_ros.stream.segmenter import Segmenter
from vljepa_ros.stream.settings import SegmenterSettings
from vljepa_ros.stream.types import Embedding, Frame

GRID = {
    'change_threshold': (0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3),
    'confirm_hops': (1, 2, 3, 4),
    'min_segment_s': (0.6, 0.8, 1.0),
}


def truths(stream: Stream) -> list[Truth]:
    """Annotations, neighbours of equal meaning as one."""
    found: list[Truth] = []
    for item in stream.annotations:
        if found and found[-1].meaning == item.meaning:
            found[-1] = Truth(found[-1].start, item.end, item.meaning, '')
        else:
            found.append(Truth(item.start, item.end, item.meaning, ''))
    return found


def hops(stream: Stream, perceiver: Perceiver) -> list[Embedding]:
    """All embeddings of a stream; times from its start."""
    perceiver.reset()
    start_ns = int(stream.stamps_ns()[0])
    return [
        embedding
        for stamp_ns, image in zip(stream.stamps_ns(), stream.frames(), strict=True)
        for embedding in perceiver.push(Frame(int(stamp_ns) - start_ns, np.asarray(image)))
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('split', type=Path)
    parser.add_argument('--model', default='small', help='name or folder')
    parser.add_argument('--streams', type=int, default=12)
    args = parser.parse_args()
    model = load(args.model, device='cpu')
    assert model.eyes is not None and model.language is not None
    names = meanings()
    centroids = np.stack(
        [unit(model.language.encode(sentences(name)).mean(axis=0)) for name in names]
    )
    perceiver = Perceiver(model.eyes)
    recorded = [
        (truths(stream), hops(stream, perceiver))
        for stream in open_split(args.split).streams[: args.streams]
    ]
    print('F1     precision recall  settings')
    results = []
    for values in itertools.product(*GRID.values()):
        settings = SegmenterSettings(**dict(zip(GRID, values, strict=True)))
        matched = said = true = 0
        for truth, embeddings in recorded:
            segmenter = Segmenter(settings, 'tune')
            changes = [c for e in embeddings for c in segmenter.push(e)] + segmenter.end()
            ended = [c for c in changes if c.previous is not None]
            nearest = [int(np.argmax(centroids @ c.previous_vector)) for c in ended]
            marks = grade(
                [
                    Said(
                        c.previous.start_ns / 1e9, c.previous.end_ns / 1e9, sentences(names[n])[0]
                    )
                    for c, n in zip(ended, nearest, strict=True)
                ],
                truth,
            )
            matched, said, true = matched + marks.matched, said + marks.said, true + marks.true
        results.append((2 * matched / (said + true), matched / said, matched / true, settings))
    for f1, precision, recall, settings in sorted(results, key=lambda r: -r[0])[:15]:
        chosen = {key: asdict(settings)[key] for key in GRID}
        print(f'{f1:.3f}  {precision:.3f}     {recall:.3f}   {chosen}')


if __name__ == '__main__':
    main()
