# SPDX-License-Identifier: Apache-2.0
"""Manifest of a model's training data, for `vljepa data manifest`.

The manifest lists the seeds and camera positions of the streams in DATA/train and
DATA/validation, the names of imported recordings, and the sentences and prompts that training may
use. With it, one can verify that a sample shares none of them. No simulator is needed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vljepa_ros.data.format import open_split
from vljepa_ros.data.simulators.mwstream import questions
from vljepa_ros.data.simulators.mwstream.meanings import paraphrases
from vljepa_ros.data.splits import TRAIN, VALIDATION, VIEWS, folder_name

SPLITS = (TRAIN, VALIDATION)
NAMED_BY = ('seed', 'source', 'camera', 'views')  # keys in meta.json that identify a stream


def collect(data: Path) -> dict[str, Any]:
    """Return the manifest of a data folder: each split's streams, and all sentences and prompts.

    Raises:
        InputError: the folder of a split does not exist.
    """
    found: dict[str, Any] = {split: collect_split(data, split) for split in SPLITS}
    return {**found, 'sentences': sorted(set(templates(paraphrases()))), 'prompts': prompts()}


def collect_split(data: Path, split: str) -> dict[str, Any]:
    """Return the streams of a split in all views, with totals over them.

    The totals are the length in seconds, the number of annotations with a concept, and the most
    frequent concept.

    Raises:
        InputError: the split's folder does not exist.
    """
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
    """Return the origin of a stream from its meta.json: seed and views, or source and camera.

    For a simulated stream, add the view and the position (m) of each camera.
    """
    cameras = [[c['view'], *c['position_m']] for c in meta.get('cameras', ())]
    found = {k: meta[k] for k in NAMED_BY if k in meta}
    if cameras:
        found['cameras'] = [c for i, c in enumerate(cameras) if c not in cameras[:i]]
    return found


def templates(node: Any, inside: bool = False) -> Iterator[str]:
    """Yield all sentence templates of the lists named `train` and `read` in parsed YAML.

    Templates contain the placeholders <colour> and <object>.

    Args:
        node: Parsed YAML: a mapping, or a list of templates.
        inside: Whether `node` belongs to such a list.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield from templates(value, key in ('train', 'read'))
    elif inside:
        yield from node


def prompts() -> list[str]:
    """Return all training prompts, sorted; they are templates with {} and named placeholders."""
    return sorted({text for topic in questions.TOPICS for text in questions.prompts(topic)})


def dump(found: dict[str, Any]) -> str:
    """Format a manifest as JSON with one stream or sentence per line."""
    text = json.dumps(found, indent=1)
    for split in SPLITS:
        for stream in found[split]['streams']:
            spread = json.dumps(stream, indent=1).replace('\n', '\n   ')
            text = text.replace(spread, json.dumps(stream))
    return text + '\n'
