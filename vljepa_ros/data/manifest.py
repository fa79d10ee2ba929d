# SPDX-License-Identifier: Apache-2.0
"""What a model was trained on: `python -m vljepa_ros.data.manifest DATA --out FILE`.

Collects seeds and camera offsets of the streams in DATA/train and DATA/validation, and the
wordings that training may use, so that a sample can be shown to share none of them. No simulator.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vljepa_ros.data.format import open_split
from vljepa_ros.data.mwstream import questions
from vljepa_ros.data.mwstream.meanings import wordings
from vljepa_ros.errors import VljepaError

SPLITS = ('train', 'validation')


def collect(data: Path) -> dict[str, Any]:
    """The manifest of a folder of splits. Raises InputError where a split is missing."""
    found: dict[str, Any] = {split: collect_split(data / split) for split in SPLITS}
    return {**found, 'sentences': sorted(set(templates(wordings()))), 'prompts': prompts()}


def collect_split(folder: Path) -> dict[str, Any]:
    """Seeds, cameras, and which meaning most annotations have."""
    streams = open_split(folder).streams
    meanings = Counter(a.meaning for stream in streams for a in stream.annotations)
    return {
        'seconds': round(sum(s.frame_count / s.meta['rate_hz'] for s in streams), 1),
        'annotations': meanings.total(),
        'most_frequent_meaning': max(meanings, key=lambda m: (meanings[m], m), default=''),
        'streams': [{'seed': s.meta['seed'], 'camera': s.meta['camera']} for s in streams],
    }


def templates(node: Any, inside: bool = False) -> Iterator[str]:
    """All sentences of the lists called `train`, with <colour> and <object> left open."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from templates(value, key == 'train')
    elif inside:
        yield from node


def prompts() -> list[str]:
    """All question wordings of the lists called `train`, with {} left open."""
    named = (value for name, value in vars(questions).items() if name.isupper())
    tables = (value for value in named if isinstance(value, dict))
    return sorted({text for table in tables for text in table.get('train', ())})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 on bad input."""
    parser = argparse.ArgumentParser(prog='vljepa_ros.data.manifest', description=__doc__)
    parser.add_argument('data', type=Path, help='the folder that holds train/ and validation/')
    parser.add_argument('--out', required=True, type=Path)
    args = parser.parse_args(arguments)
    try:
        found = collect(args.data)
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    args.out.write_text(dump(found), encoding='utf-8')
    counts = ', '.join(f'{len(found[split]["streams"])} streams of {split}' for split in SPLITS)
    print(f'{args.out}: {counts}')
    return 0


def dump(found: dict[str, Any]) -> str:
    """JSON with one stream or sentence a line."""
    text = json.dumps(found, indent=1)
    for split in SPLITS:
        for stream in found[split]['streams']:
            spread = json.dumps(stream, indent=1).replace('\n', '\n   ')
            text = text.replace(spread, json.dumps(stream))
    return text + '\n'


if __name__ == '__main__':
    sys.exit(main())
