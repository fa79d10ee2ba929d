# SPDX-License-Identifier: Apache-2.0
"""What a model was trained on: the work of `vljepa data manifest`.

Collects seeds and camera offsets of the streams in DATA/train and DATA/validation, and the
wordings that training may use, so that a sample can be shown to share none of them; of imported
recordings their names. No simulator.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vljepa_ros.data.format import open_split
from vljepa_ros.data.simulators.mwstream import questions
from vljepa_ros.data.simulators.mwstream.meanings import wordings
from vljepa_ros.data.splits import TRAIN, VALIDATION, VIEWS, folder_name

SPLITS = (TRAIN, VALIDATION)
NAMED_BY = ('seed', 'source', 'camera', 'views')  # keys of a stream's meta.json


def collect(data: Path) -> dict[str, Any]:
    """The manifest of a folder of splits. Raises InputError where a split is missing."""
    found: dict[str, Any] = {split: collect_split(data, split) for split in SPLITS}
    return {**found, 'sentences': sorted(set(templates(wordings()))), 'prompts': prompts()}


def collect_split(data: Path, split: str) -> dict[str, Any]:
    """List the streams of a split in all views, and the concept that most annotations have."""
    folders = [data / folder_name(split, views) for views in VIEWS]
    streams = open_split(folders[0]).streams
    streams += tuple(
        s for folder in folders[1:] if folder.is_dir() for s in open_split(folder).streams
    )
    meanings = Counter(a.meaning for s in streams for a in s.annotations if a.meaning)
    return {
        'seconds': round(sum(s.frame_count / s.meta['rate_hz'] for s in streams), 1),
        'annotations': meanings.total(),
        'most_frequent_meaning': max(meanings, key=lambda m: (meanings[m], m), default=''),
        'streams': [describe(s.meta) for s in streams],
    }


def describe(meta: dict[str, Any]) -> dict[str, Any]:
    """Where a stream comes from; of simulated cameras each one's view and position (m), once."""
    cameras = [[c['view'], *c['position_m']] for c in meta.get('cameras', ())]
    found = {k: meta[k] for k in NAMED_BY if k in meta}
    if cameras:
        found['cameras'] = [c for i, c in enumerate(cameras) if c not in cameras[:i]]
    return found


def templates(node: Any, inside: bool = False) -> Iterator[str]:
    """All sentences of the lists `train` and `read`, with <colour> and <object> left open."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from templates(value, key in ('train', 'read'))
    elif inside:
        yield from node


def prompts() -> list[str]:
    """All question wordings of the lists called `train`, with {} and the like left open."""
    return sorted({text for topic in questions.TOPICS for text in questions.prompts(topic)})


def dump(found: dict[str, Any]) -> str:
    """JSON with one stream or sentence a line."""
    text = json.dumps(found, indent=1)
    for split in SPLITS:
        for stream in found[split]['streams']:
            spread = json.dumps(stream, indent=1).replace('\n', '\n   ')
            text = text.replace(spread, json.dumps(stream))
    return text + '\n'
