# SPDX-License-Identifier: Apache-2.0
"""`vljepa annotate --out` and `--vtt`, on a bag of red, blue and green, with the fake model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import bags
from helpers.fake_models import fake_model, solid_image
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from vljepa_ros.cli.annotated_bag import webvtt
from vljepa_ros.core.exit_status import ExitStatus
from vljepa_ros.core.types import Embedding, Event, State, StreamKey
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import open_source

Run = Callable[..., Any]
TEXTS, CHANGES = '/vljepa/text_event', '/vljepa/semantic_change'
VECTORS = '/vljepa/semantic_embedding'


def messages(folder: Path, topic: str) -> list[tuple[int, Any]]:
    """Return the recording time and content of the messages of a topic."""
    with AnyReader([folder]) as reader:
        chosen = [c for c in reader.connections if c.topic == topic]
        return [(t, reader.deserialize(data, c.msgtype)) for c, t, data in reader.messages(chosen)]


def stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)


def embeddings(folder: Path) -> list[Embedding]:
    """Return the embeddings, computed with the pipeline directly."""
    pipeline, found = Pipeline(fake_model()), list[Embedding]()
    for frame in open_source(folder):
        pipeline.push(frame)
        found += pipeline.last_embeddings
    return found


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_the_bag_is_copied_with_the_outputs_of_the_pipeline(
    vljepa: Run, tmp_path: Path, storage: StoragePlugin
) -> None:
    rows = bags.colors(['red'] * 3 + ['blue'] * 3, 10)
    bag, out = bags.write(tmp_path / 'bag', rows, storage), tmp_path / 'out'
    found = vljepa('annotate', bag, '--out', out, '--json')
    assert found.status == 0 and [line['text'] for line in found.lines] == [
        'the scene is red',
        'the scene is blue',
    ]
    suffix = 'mcap' if storage is StoragePlugin.MCAP else 'db3'
    assert [file.suffix for file in out.iterdir() if file.suffix != '.yaml'] == [f'.{suffix}']
    before, after = messages(bag, bags.TOPIC), messages(out, bags.TOPIC)
    assert [t for t, _ in before] == [t for t, _ in after]
    assert all(a.data.tobytes() == b.data.tobytes() for (_, a), (_, b) in zip(before, after))
    expected, vectors = embeddings(bag), messages(out, VECTORS)
    assert [stamp_ns(m) for _, m in vectors] == [e.stamp_ns for e in expected]
    for embedding, (_, message) in zip(expected, vectors, strict=True):
        np.testing.assert_array_equal(message.vector, embedding.vector)
        assert message.source == 'camera' and message.header.frame_id == 'optical'
    assert [m.reason for _, m in messages(out, CHANGES)] == [0, 1, 4]
    texts = [m for _, m in messages(out, TEXTS)]
    assert [m.text for m in texts if m.state == State.ENDED] == [
        'the scene is red',
        'the scene is blue',
    ]


def test_an_output_is_recorded_with_its_image(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    vljepa('annotate', bag, '--out', tmp_path / 'out')
    recorded = {stamp_ns(m): t for t, m in messages(tmp_path / 'out', bags.TOPIC)}
    for topic in (VECTORS, CHANGES, TEXTS):
        found = messages(tmp_path / 'out', topic)
        assert found and all(t == recorded[stamp_ns(m)] for t, m in found[:-1])


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_other_topics_are_kept_with_their_definitions(
    vljepa: Run, tmp_path: Path, storage: StoragePlugin
) -> None:
    odd = ('/odd', bags.START_NS + 10**9, bags.odd(7.5))
    rows = sorted([*bags.colors(['red'] * 3, 10), odd], key=lambda row: row[1])
    bag, out = bags.write(tmp_path / 'bag', rows, storage), tmp_path / 'out'
    assert vljepa('annotate', bag, '--out', out).status == 0
    [(log_ns, message)] = messages(out, '/odd')
    assert (log_ns, message.secret) == (odd[1], 7.5)


@pytest.mark.ros
def test_the_messages_are_those_of_the_nodes(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    from rclpy.serialization import deserialize_message
    from vljepa_ros.msg import SemanticChange, SemanticEmbedding, TextEvent

    from vljepa_ros.nodes import conversions

    out = tmp_path / 'out'
    vljepa('annotate', bag, '--out', out)
    kinds = {VECTORS: SemanticEmbedding, CHANGES: SemanticChange, TEXTS: TextEvent}
    found: dict[str, list[Any]] = {topic: [] for topic in kinds}
    with AnyReader([out]) as reader:
        for connection, _, data in reader.messages():
            if connection.topic in kinds:
                message = deserialize_message(bytes(data), kinds[connection.topic])
                found[connection.topic].append(message)
    read = [conversions.from_embedding_message(message) for message in found[VECTORS]]
    assert [e.stamp_ns for e in read] == [e.stamp_ns for e in embeddings(bag)]
    changes = [conversions.from_change_message(message) for message in found[CHANGES]]
    assert changes[1].previous is not None and changes[1].previous_vector is not None
    events = [conversions.from_event_message(message) for message in found[TEXTS]]
    assert events[-1].state is State.ENDED and events[-1].alternatives


def test_the_new_bag_can_be_annotated_again(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    first = vljepa('annotate', bag, '--out', tmp_path / 'out')
    assert vljepa('annotate', tmp_path / 'out').out == first.out


def test_several_prompts_have_segments_of_their_own(
    vljepa: Run, bag: Path, tmp_path: Path
) -> None:
    prompts = ('--prompt', 'What?', '--prompt', 'Where?')
    found = vljepa('annotate', bag, *prompts, '--json', '--out', tmp_path / 'out')
    assert {line['prompt'] for line in found.lines} == {'What?', 'Where?'}
    assert {m.prompt for _, m in messages(tmp_path / 'out', VECTORS)} == {'What?', 'Where?'}


def test_regions_of_a_camera_are_written_by_name(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    regions = ('--crop', 'left=0,0,0.5,1', '--crop', 'right=0.5,0,0.5,1')
    found = vljepa('annotate', bag, *regions, '--out', tmp_path / 'out')
    assert found.status == 0
    assert {m.source for _, m in messages(tmp_path / 'out', TEXTS)} == {'left', 'right'}
    assert len(messages(tmp_path / 'out', VECTORS)) == 2 * len(embeddings(bag))


def test_bad_input_is_one_line_and_writes_nothing(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    cv2.imwrite(str(images / '1.png'), solid_image('red'))
    taken = tmp_path / 'taken'
    taken.mkdir()
    for source, out, token in (
        (bag, taken, 'exists'),
        (bag, tmp_path / 'no' / 'out', 'no such folder'),
        (bag, bag / 'out', 'inside'),
        (images, tmp_path / 'out', 'not a bag'),
    ):
        found = vljepa('annotate', source, '--out', out)
        assert (found.status, found.out) == (ExitStatus.BAD_INPUT, '')
        assert token in found.err and len(found.err.splitlines()) == 1
    found = vljepa('annotate', bag, '--offline', '--out', tmp_path / 'out')
    assert found.status == ExitStatus.BAD_INPUT and not (tmp_path / 'out').exists()


def event(start_s: float, end_s: float, text: str, camera: str = 'camera') -> Event:
    start_ns, end_ns = round(start_s * 1e9), round(end_s * 1e9)
    key = StreamKey(camera, '?', 'model')
    return Event(end_ns, key, 's', 0, start_ns, end_ns, State.ENDED, text, 0.9)


def test_subtitles_show_the_final_texts(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    assert vljepa('annotate', bag, '--vtt', tmp_path / 'bag.vtt').status == 0
    lines = (tmp_path / 'bag.vtt').read_text().splitlines()
    assert lines[0] == 'WEBVTT' and lines[3] == 'the scene is red'
    assert lines[2].startswith('00:00:00.100 --> 00:00:0')


def test_subtitles_contain_no_markup() -> None:
    text = webvtt([event(3661.5, 7322.25, '<b>a & b</b>\n\n00:00 --> x \u202e \U0001f525')], 0)
    header, cue = text.strip().split('\n\n')
    assert header == 'WEBVTT'
    times, line = cue.split('\n')
    assert times == '01:01:01.500 --> 02:02:02.250'
    assert line.startswith('&lt;b&gt;a &amp; b&lt;/b&gt;') and '-->' not in line
    assert '\U0001f525' in line and '\u202e' not in line


def test_subtitles_of_several_cameras_name_them() -> None:
    text = webvtt([event(2, 3, 'b', 'rear'), event(1, 2, 'a', 'front'), event(4, 5, '')], 0)
    assert [cue.split('\n')[1] for cue in text.strip().split('\n\n')[1:]] == [
        'front: a',
        'rear: b',
    ]
