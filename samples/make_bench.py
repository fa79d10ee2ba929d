# SPDX-License-Identifier: Apache-2.0
"""Generate samples/bench: `python samples/make_bench.py [--seed 30009]` (metaworld and mujoco).

The sample is a rosbag2 MCAP recording of a robot arm, rendered by the generator of the training
data in the split `sample`, which has seeds, camera and paraphrases of its own. Files in the bag's
folder:

    ground_truth.json   annotations, with sentences in paraphrases that are absent from training
    questions.json      three questions for the `query` service with times and correct answers
    manifest.json       seeds, camera offsets and paraphrases; a test compares it with training's

The seed is the first from 30,000 on whose stream has one dark interval, in its middle third, no
failed episode and no repeated object. It was chosen before the first model was trained.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.data.format import Annotation, StreamData
from vljepa_ros.data.generation import check_seconds, require_simulator
from vljepa_ros.data.manifest import describe as origin
from vljepa_ros.data.simulators.mwstream import questions as asking
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.data.splits import seed_range

TOPIC, TYPE = '/camera/image_raw/compressed', 'sensor_msgs/msg/CompressedImage'
FRAME_ID = 'camera_optical_frame'
START_NS = 1_790_000_000_000_000_000
SIZE, SECONDS, SEED, QUALITY = 240, 120.0, 30009, 80


def main() -> int:
    """Parse the command line and generate the sample; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=SEED)
    parser.add_argument('--seconds', type=float, default=SECONDS)
    parser.add_argument('--out', type=Path, default=Path(__file__).parent / 'bench')
    args = parser.parse_args()
    try:
        make(args.out, args.seed, args.seconds)
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def make(out: Path, seed: int, seconds: float) -> None:
    """Render the stream and write the folder. Raises InputError if it is unsuitable."""
    check_seconds(seconds)
    seed_range('sample', 1, seed)
    if out.exists() and not (out / 'metadata.yaml').is_file():  # an existing sample is replaced
        raise InputError(f'{out} exists and is not a sample: remove it or choose another --out')
    require_simulator()
    from vljepa_ros.data.simulators.mwstream.streams import Director

    data = Director(SIZE).film('sample', seed, seconds)
    check(data.annotations, data.meta)
    shutil.rmtree(out, ignore_errors=True)
    write_bag(out, data)
    truth = [describe(a) for a in data.annotations]
    asked = questions(data.annotations, np.random.default_rng([seed, 5]))
    write(out / 'ground_truth.json', {'start_ns': START_NS, 'annotations': truth})
    write(out / 'questions.json', asked)
    write(out / 'manifest.json', manifest(data.meta, truth, asked))


def check(annotations: tuple[Annotation, ...], meta: dict[str, Any]) -> None:
    """Check the conditions in the module's docstring. Raises InputError."""
    dark = [a for a in annotations if a.phase == 'dark']
    length = annotations[-1].end
    things = [a.object for a in annotations if a.phase == 'act']
    if len(dark) != 1 or not length / 3 <= dark[0].start <= 2 * length / 3:
        raise InputError(
            f'expected one dark interval in the middle third, found {len(dark)} dark intervals'
        )
    if not all(episode['success'] for episode in meta['episodes']):
        raise InputError('an episode failed')
    if len(things) - len(set(things)) > 1:  # an act interrupted by the dark counts twice
        raise InputError('an object occurs twice')
    acts = [a for a in annotations if a.phase == 'act']
    early = sum(a.end <= dark[0].start for a in acts)
    late = sum(a.start >= dark[0].end for a in acts)
    if not early or not late or len({a.task for a in acts}) < 3:
        raise InputError('too few acts to ask about')


def write_bag(out: Path, data: StreamData) -> None:
    """Write the rosbag2 files."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: Any = store.types
    first_ns = int(data.stamps_ns[0])
    with Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, TYPE, typestore=store)
        for image, stamp in zip(data.frames, data.stamps_ns, strict=True):
            stamp_ns = START_NS + int(stamp) - first_ns
            message = types[TYPE](
                header=types['std_msgs/msg/Header'](
                    stamp=types['builtin_interfaces/msg/Time'](
                        sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
                    ),
                    frame_id=FRAME_ID,
                ),
                format='rgb8; jpeg compressed bgr8',
                data=jpeg(image),
            )
            writer.write(connection, stamp_ns, store.serialize_cdr(message, TYPE))


def jpeg(image: np.ndarray) -> np.ndarray:
    """Encode an RGB image as JPEG bytes."""
    good, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert good
    return np.asarray(data, np.uint8).ravel()


def describe(annotation: Annotation) -> dict[str, Any]:
    """Convert an annotation to JSON values, with its sentence."""
    kept = ('start', 'end', 'meaning', 'phase', 'task', 'object', 'colour')
    found = {key: value for key, value in asdict(annotation).items() if key in kept}
    return {**found, 'sentence': sentences(annotation.meaning, 'sample')[0]}


def questions(
    annotations: tuple[Annotation, ...], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return an open question in the longest act before the dark, yes/no in it, and a choice."""
    dark = next(a for a in annotations if a.phase == 'dark')
    acts = [a for a in annotations if a.phase == 'act']
    before = max((a for a in acts if a.end <= dark.start), key=lambda a: a.end - a.start)
    after = max((a for a in acts if a.start >= dark.end), key=lambda a: a.end - a.start)
    others = [a for a in acts if a.task != after.task]
    wrong = [others[i] for i in rng.choice(len(others), 2, replace=False)]
    meanings = [
        after.meaning,
        after.meaning.replace('act:', 'done:'),
        *(a.meaning for a in wrong),
        'rest',
    ]
    texts = [sentences(meaning, 'sample')[0] for meaning in meanings]
    prompt, light = (asking.prompts(topic, 'sample')[0] for topic in ('caption', 'light'))
    return [
        {
            'kind': 'open',
            'at': middle(before),
            'prompt': prompt,
            'candidates': [],
            'meaning': before.meaning,
            'answer': sentences(before.meaning, 'sample')[0],
        },
        {
            'kind': 'yes/no',
            'at': middle(dark),
            'prompt': light,
            'candidates': ['yes', 'no'],
            'meaning': 'no',
            'answer': 'no',
        },
        {
            'kind': 'candidates',
            'at': middle(after),
            'prompt': prompt,
            'candidates': sorted(texts),
            'meaning': after.meaning,
            'answer': texts[0],
        },
    ]


def middle(annotation: Annotation) -> float:
    """Return the middle in seconds from the bag's start, rounded to a frame."""
    return round((annotation.start + annotation.end) / 2, 1)


def manifest(
    meta: dict[str, Any], truth: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the origin of all parts of the sample."""
    return {
        'command': 'python samples/make_bench.py',
        'topic': TOPIC,
        'picture_size': SIZE,
        'streams': [origin(meta)],
        'episodes': meta['episodes'],
        'looks': meta['looks'],
        'sentences': sorted({a['sentence'] for a in truth}),
        'prompts': sorted({q['prompt'] for q in asked}),
    }


def write(path: Path, values: Any) -> None:
    """Write JSON with line breaks that suit a diff."""
    path.write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
