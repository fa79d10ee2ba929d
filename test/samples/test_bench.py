# SPDX-License-Identifier: Apache-2.0
"""The sample bag: its contents, and that it is absent from training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vljepa_ros.cli.event_grading import read_questions, read_true_events
from vljepa_ros.core.types import Frame
from vljepa_ros.data.simulators.mwstream.cameras import VIEWPOINTS
from vljepa_ros.data.simulators.mwstream.meanings import is_right, sentences
from vljepa_ros.data.simulators.mwstream.tasks import COLOR_NAMES, TASKS, TRAIN_TASKS
from vljepa_ros.data.splits import SAMPLE, SEEDS
from vljepa_ros.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / 'samples' / 'bench'


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    return list(open_source(BENCH))


def test_the_sample_is_a_small_recording_of_ten_upright_images_per_second(
    frames: list[Frame],
) -> None:
    assert sum(p.stat().st_size for p in BENCH.iterdir()) < 15_000_000
    gaps = np.diff([frame.stamp_ns for frame in frames])
    assert (gaps == 100_000_000).all() and 90 <= len(frames) / 10 <= 150
    assert all(frame.image.shape == (240, 240, 3) for frame in frames)
    assert {frame.source for frame in frames} == {'camera'}


def test_metadata_is_compatible_with_ros2_bag_play() -> None:
    info = yaml.safe_load((BENCH / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    topic = info['topics_with_message_count'][0]['topic_metadata']
    assert info['version'] <= 9 and info['storage_identifier'] == 'mcap'
    assert topic['type'] == 'sensor_msgs/msg/CompressedImage' and topic['name'].startswith('/')
    assert topic['serialization_format'] == 'cdr' and topic['type_description_hash']
    assert info['relative_file_paths'] == ['bench.mcap'] == [p.name for p in BENCH.glob('*.mcap')]
    assert info['message_count'] == 1200


def test_annotations_cover_the_bag_with_tasks_rests_and_one_dark_span(frames: list[Frame]) -> None:
    rows = read(BENCH / 'ground_truth.json')['annotations']
    assert rows[0]['start'] == 0 and rows[-1]['end'] == len(frames) / 10
    assert [row['end'] for row in rows[:-1]] == [row['start'] for row in rows[1:]]
    assert read(BENCH / 'ground_truth.json')['start_ns'] == frames[0].stamp_ns
    acts = {row['task'] for row in rows if row['phase'] == 'act'}
    assert len(acts) >= 6 and acts <= set(TRAIN_TASKS)
    assert sum(row['phase'] == 'rest' for row in rows) >= 5
    dark = [row for row in rows if row['phase'] == 'dark']
    assert len(dark) == 1 and dark[0]['start'] > 0 and dark[0]['end'] < rows[-1]['end']


def test_the_light_changes_as_annotated(frames: list[Frame]) -> None:
    dark = next(t for t in read_true_events(BENCH) if t.meaning == 'dark')
    level = [float(frame.image.mean()) for frame in frames]
    inside = range(round(dark.start * 10), round(dark.end * 10))
    assert max(level[i] for i in inside) < 25
    assert min(level[i] for i in range(len(level)) if abs(i - dark.start * 10) > 70) > 40


def test_sentences_and_answers_match_their_concepts() -> None:
    assert all(
        is_right(annotation.meaning, annotation.sentence) for annotation in read_true_events(BENCH)
    )
    for question in read_questions(BENCH):
        assert question.is_answered_by(question.answer)
    kinds = [question.kind for question in read_questions(BENCH)]
    assert sorted(kinds) == ['candidates', 'open', 'yes/no']


def test_questions_have_the_answer_of_their_time() -> None:
    annotations = read_true_events(BENCH)
    for question in read_questions(BENCH):
        now = next(t for t in annotations if t.start <= question.at < t.end)
        assert now.meaning == (question.meaning if question.meaning != 'no' else 'dark')
        if question.candidates:
            assert question.answer in question.candidates
    others = next(q for q in read_questions(BENCH) if q.kind == 'candidates').candidates
    meaning = next(q for q in read_questions(BENCH) if q.kind == 'candidates').meaning
    assert sum(text in sentences(meaning, 'sample') for text in others) == 1


# Training data.


def training_data() -> dict[str, Any]:
    """Return the training data of the shipped weights and of their initial weights."""
    folder = ROOT / 'models' / 'small'
    newest, *older = (
        read(path)
        for path in (folder / 'data_manifest.json', folder / 'data_manifest_start.json')
        if path.is_file()
    )
    for manifest in older:
        for split in ('train', 'validation'):
            newest[split]['streams'] += manifest[split]['streams']
        newest['sentences'] += manifest['sentences']
        newest['prompts'] += manifest['prompts']
    return newest


def places_m(stream: dict[str, Any]) -> list[np.ndarray]:
    """Return the camera positions of a listed stream, or their offsets from a viewpoint."""
    if 'cameras' in stream:
        return [np.array(camera[1:]) for camera in stream['cameras']]
    camera = stream['camera']
    return [np.array(VIEWPOINTS[camera['name']][0]) + camera['offset_m']]


def sample() -> dict[str, Any]:
    return read(BENCH / 'manifest.json')


def open_pattern(template: str) -> re.Pattern[str]:
    """Return a pattern of a training paraphrase with open slots."""
    text = re.escape(template)
    text = text.replace(re.escape('<colour>'), f'({"|".join(COLOR_NAMES)})')
    things = '|'.join(re.escape(facts.object) for facts in TASKS.values())
    text = text.replace(re.escape('<object>'), f'({things})')
    return re.compile(text.replace(re.escape('{}'), '.+'), re.IGNORECASE)


def test_seeds_of_the_sample_are_not_in_the_training_data() -> None:
    manifest = training_data()
    used = {s['seed'] for split in ('train', 'validation') for s in manifest[split]['streams']}
    own = {s['seed'] for s in sample()['streams']} | {
        episode['seed'][0] for episode in sample()['episodes']
    }
    assert len(used) > 100 and not own & used
    assert all(seed in SEEDS[SAMPLE] for seed in own)


def test_cameras_of_the_sample_are_not_in_the_training_data() -> None:
    manifest = training_data()
    streams = [s for split in ('train', 'validation') for s in manifest[split]['streams']]
    used = np.array([place for stream in streams for place in places_m(stream)])
    for own in (place for stream in sample()['streams'] for place in places_m(stream)):
        assert np.linalg.norm(used - own, axis=1).min() > 0.002


def test_paraphrases_of_the_sample_are_not_in_the_training_lists() -> None:
    manifest = training_data()
    training_sentences = [open_pattern(text) for text in manifest['sentences']]
    training_prompts = [open_pattern(text) for text in manifest['prompts'] if text]
    assert len(training_sentences) > 300 and len(training_prompts) > 20
    for text in sample()['sentences']:
        assert not [p.pattern for p in training_sentences if p.fullmatch(text)], text
    for text in sample()['prompts']:
        assert not [p.pattern for p in training_prompts if p.fullmatch(text)], text
    answers = [text for q in read_questions(BENCH) if q.kind != 'yes/no' for text in q.candidates]
    assert not [text for text in answers for p in training_sentences if p.fullmatch(text)]


def test_the_manifest_matches_the_bag() -> None:
    assert {t.sentence for t in read_true_events(BENCH)} == set(sample()['sentences'])
    assert {q.prompt for q in read_questions(BENCH)} == set(sample()['prompts'])
    tasks = {row['task'] for row in read(BENCH / 'ground_truth.json')['annotations']}
    assert tasks <= {episode['task'] for episode in sample()['episodes']}


@pytest.mark.parametrize('meaning', ['rest', 'reach:door:red', 'act:door-open:blue'])
def test_training_sentences_match_the_patterns(meaning: str) -> None:
    patterns = [open_pattern(text) for text in training_data()['sentences']]
    for text in sentences(meaning, 'train')[:5]:
        assert any(p.fullmatch(text) for p in patterns)
