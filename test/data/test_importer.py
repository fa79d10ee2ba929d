# SPDX-License-Identifier: Apache-2.0
"""Conversion of recordings to streams: images, times and annotations."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import bags
from helpers.numbered_recordings import (
    bag,
    caption_line,
    gray,
    image_folder,
    numbers,
    question_line,
    rows,
    video,
    write_lines,
)

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.annotation_file import AnnotationError, read_annotations
from vljepa_ros.data.format import AnnotatedQuestion, StreamData, open_split, read_stream
from vljepa_ros.data.importer import Grid, RecordingConverter, write_all
from vljepa_ros.sources import open_source

BENCH = Path(__file__).resolve().parents[2] / 'samples' / 'bench'
SMALL = Grid(size=8)
FRONT, REAR = '/front/image_raw/compressed', '/rear/image_raw/compressed'


def streams(path: Path, *given: Any, grid: Grid = SMALL, fps: float = 0) -> list[StreamData]:
    """Return the streams of a recording with these annotations."""
    source = open_source(path, fps=fps)
    converter = RecordingConverter(source, grid)
    for item in source.items():
        converter.push(item)
    return converter.streams(read_annotations(write_lines(path.parent / 'said.jsonl', *given)))


def times(stream: StreamData) -> list[tuple[float, float, str]]:
    return [(a.start, a.end, a.text) for a in stream.annotations]


def test_a_video_is_resampled_to_the_grid_by_its_stamps(tmp_path: Path) -> None:
    (found,) = streams(video(tmp_path / 'run.avi', 50, 25.0), caption_line(0, 2))
    assert numbers(found.frames) == [100 * k // 40 for k in range(20)]  # ms
    assert found.stamps_ns.tolist() == [k * 100_000_000 for k in range(20)]
    assert found.stamps_ns.dtype == np.int64
    assert found.frames.shape == (20, 8, 8, 3) and found.frames.dtype == np.uint8
    assert found.name == 'run'


def test_the_grid_has_the_requested_rate(tmp_path: Path) -> None:
    (found,) = streams(
        image_folder(tmp_path / 'f', 8), caption_line(0, 1), grid=Grid(4.0, 8), fps=2.0
    )
    assert numbers(found.frames) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    assert found.stamps_ns.tolist() == [k * 250_000_000 for k in range(15)]
    assert times(found) == [(0.0, 1.0, 'It moves.'), (1.0, 3.75, '')]
    assert found.meta['rate_hz'] == 4.0


def test_images_are_cropped_and_scaled_as_at_run_time(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    (tmp_path / 'f').mkdir()
    cv2.imwrite(str(tmp_path / 'f' / '0.png'), image[..., ::-1])
    (found,) = streams(tmp_path / 'f', caption_line(0, 0.1))
    means = image[:, 4:28].reshape(8, 3, 8, 3, 3).mean((1, 3))
    assert np.abs(found.frames[0] - means).max() <= 0.51


def test_annotations_tile_the_stream(tmp_path: Path) -> None:
    (found,) = streams(
        video(tmp_path / 'run.avi', 50),
        caption_line(1.25, 1.5, 'It  stops.'),
        caption_line(0.2, 0.7, 'it moves'),
        caption_line(0.7, 0.9, 'It moves. '),
    )
    facts = [(a.start, a.end, a.phase, a.meaning, a.text) for a in found.annotations]
    assert facts == [
        (0.0, 0.2, 'none', '', ''),
        (0.2, 0.7, 'told', 'say:it moves', 'it moves'),
        (0.7, 0.9, 'told', 'say:it moves', 'It moves. '),
        (0.9, 1.25, 'none', '', ''),
        (1.25, 1.5, 'told', 'say:it stops', 'It  stops.'),
        (1.5, 2.0, 'none', '', ''),
    ]
    assert {(a.task, a.object, a.colour) for a in found.annotations} == {('', '', '')}


def test_a_question_covers_one_frame(tmp_path: Path) -> None:
    given = (
        question_line(0),
        question_line(1.9, 'Which?', 'b', candidates=['a', 'b']),
        question_line(0.33),
    )
    (found,) = streams(video(tmp_path / 'run.avi', 50), *given)
    assert found.questions == (
        AnnotatedQuestion(0.0, 0.1, 'Does it?', 'yes'),
        AnnotatedQuestion(0.33, 0.43, 'Does it?', 'yes'),
        AnnotatedQuestion(1.9, 2.0, 'Which?', 'b', ('a', 'b')),
    )
    assert [(a.start, a.end, a.phase) for a in found.annotations] == [(0.0, 2.0, 'none')]


@pytest.mark.parametrize(
    ('line', 'part'),
    [
        (caption_line(1, 2.2), '2.2 s is after the end'),
        (caption_line(5, 6), '6 s is after the end'),
        (question_line(2.5), '2.5 s is after the end'),
        (caption_line(0, 1, source='rear'), "unknown camera 'rear' (known: camera)"),
        (question_line(0, source='rear'), "unknown camera 'rear'"),
    ],
)
def test_a_line_outside_the_recording_is_named(
    tmp_path: Path, line: dict[str, Any], part: str
) -> None:
    path = video(tmp_path / 'run.avi', 50)
    with pytest.raises(AnnotationError) as caught:
        streams(path, question_line(0.5), line)
    assert f'{tmp_path}/said.jsonl:2: ' in str(caught.value) and part in str(caught.value)


def test_annotations_may_extend_to_the_end_of_the_last_image(tmp_path: Path) -> None:
    (fast,) = streams(video(tmp_path / 'run.avi', 50), caption_line(1, 2.06))  # 1.96 s and a frame
    assert times(fast)[-1] == (1.0, 2.0, 'It moves.')
    slow = image_folder(tmp_path / 'f', 4)
    (found,) = streams(slow, caption_line(1, 4), fps=1.0)
    assert len(found.frames) == 31 and times(found)[-1] == (1.0, 3.1, 'It moves.')
    with pytest.raises(AnnotationError, match=r'4\.1 s'):
        streams(slow, caption_line(1, 4.1), fps=1.0)


def test_each_camera_has_its_own_stream_and_lines(tmp_path: Path) -> None:
    folder = bag(
        tmp_path / 'two',
        rows([k / 10 for k in range(20)], FRONT),
        rows([0.5 + k / 10 for k in range(10)], REAR),
    )
    front, rear = streams(
        folder,
        caption_line(0, 1, 'both'),
        caption_line(1, 1.2, 'left', source='front'),
        caption_line(1, 1.2, 'right', source='rear'),
        question_line(0.2, source='front'),
        question_line(0.8, source='rear'),
    )
    assert (front.name, rear.name) == ('two-front', 'two-rear')
    assert times(front) == [(0.0, 1.0, 'both'), (1.0, 1.2, 'left'), (1.2, 2.0, '')]
    assert times(rear) == [(0.0, 0.5, 'both'), (0.5, 0.7, 'right'), (0.7, 1.0, '')]
    assert [(t.start, t.end) for t in front.questions] == [(0.2, 0.3)]
    assert [(t.start, t.end) for t in rear.questions] == [(0.3, 0.4)]
    assert rear.stamps_ns[0] == bags.START_NS + 500_000_000
    assert {k: rear.meta[k] for k in ('source', 'camera', 'topic', 'offset_s', 'path')} == {
        'source': 'two',
        'camera': 'rear',
        'topic': REAR,
        'offset_s': 0.5,
        'path': str(folder),
    }
    assert 'seed' not in rear.meta


def test_a_long_gap_splits_the_recording_into_two_streams(tmp_path: Path) -> None:
    seen = [k / 10 for k in range(10)] + [4 + k / 10 for k in range(5)]
    path = bag(tmp_path / 'hole', rows(seen))
    first, second = streams(
        path,
        caption_line(0.1, 0.5, 'A'),
        caption_line(0.5, 4.2),
        caption_line(4.3, 4.4, 'B'),
        question_line(4.3),
    )
    assert (first.name, second.name) == ('hole-1', 'hole-2')
    assert numbers(first.frames) == list(range(10))
    assert numbers(second.frames) == list(range(10, 15))
    assert second.stamps_ns.tolist() == [
        bags.START_NS + 4_000_000_000 + k * 100_000_000 for k in range(5)
    ]
    assert times(first) == [(0.0, 0.1, ''), (0.1, 0.5, 'A'), (0.5, 1.0, 'It moves.')]
    assert times(second) == [
        (0.0, 0.2, 'It moves.'),
        (0.2, 0.3, ''),
        (0.3, 0.4, 'B'),
        (0.4, 0.5, ''),
    ]
    assert first.questions == () and [(t.start, t.end) for t in second.questions] == [(0.3, 0.4)]
    for lost in (caption_line(1, 4), question_line(2)):
        with pytest.raises(AnnotationError, match=r'said\.jsonl:2'):
            streams(path, caption_line(0, 0.5), lost)


def test_a_short_gap_repeats_the_last_image(tmp_path: Path) -> None:
    (found,) = streams(bag(tmp_path / 'b', rows([0, 0.1, 2.1, 2.2])), caption_line(0, 1))
    assert numbers(found.frames) == [0, *[1] * 20, 2, 3]


def test_damaged_images_longer_than_max_gap_split_the_stream(tmp_path: Path) -> None:
    seen = rows([k / 10 for k in range(45)])
    for k in range(5, 35):
        topic, stamp, _ = seen[k]
        seen[k] = (topic, stamp, bags.compressed(stamp, np.zeros(9, np.uint8)))
    first, second = streams(bag(tmp_path / 'b', seen), caption_line(0, 1))
    # The last valid image, at 0.4 s, is repeated for two seconds.
    assert numbers(first.frames) == [0, 1, 2, 3, *[4] * 21]
    assert second.stamps_ns[0] == bags.START_NS + 3_500_000_000
    assert numbers(second.frames) == list(range(35, 45))


def test_irregular_stamps_are_dropped_and_reported(tmp_path: Path) -> None:
    source = open_source(odd(tmp_path / 'b'))
    converter = RecordingConverter(source, Grid(size=8))
    reports = [converter.push(item) for item in source.items()]
    assert [bool(line) for line in reports] == [False, False, True, True, False]
    (found,) = converter.streams(
        read_annotations(write_lines(tmp_path / 'a.jsonl', caption_line(0, 0.1)))
    )
    assert numbers(found.frames) == [0, 1, 4]


def odd(folder: Path) -> Path:
    """Return stamps that repeat or go back a little."""
    found = rows([0, 0.1, 0.1, 0.05, 0.2])
    return bags.write(folder, [(t, bags.START_NS + i, m) for i, (t, _, m) in enumerate(found)])


def test_a_time_that_restarts_is_rejected(tmp_path: Path) -> None:
    found = rows([10, 10.1, 0, 0.1])
    path = bags.write(
        tmp_path / 'b', [(t, bags.START_NS + i, m) for i, (t, _, m) in enumerate(found)]
    )
    with pytest.raises(InputError, match=r'camera.*10\.100 s'):
        streams(path, caption_line(0, 0.1))


@pytest.mark.parametrize(
    ('rate', 'size'),
    [(0.0, 96), (-1.0, 96), (float('nan'), 96), (1e4, 96), (10.0, 7), (10.0, 5000)],
)
def test_an_invalid_grid_is_rejected(rate: float, size: int) -> None:
    with pytest.raises(InputError, match=r'rate|size'):
        Grid(rate, size)


def test_the_sample_bag_can_be_imported(tmp_path: Path) -> None:
    source = open_source(BENCH)
    converter = RecordingConverter(source, Grid())
    for item in source.items():
        converter.push(item)
    path = write_lines(tmp_path / 'a.jsonl', caption_line(0, 60), question_line(119.9))
    assert write_all(tmp_path / 'train', converter.streams(read_annotations(path))) == ['bench']
    (found,) = open_split(tmp_path / 'train').streams
    assert found.frames().shape == (1200, 96, 96, 3)
    assert np.unique(np.diff(found.stamps_ns())).tolist() == [100_000_000]
    assert [(a.start, a.end) for a in found.annotations] == [(0.0, 60.0), (60.0, 120.0)]
    assert [(t.start, t.end) for t in found.questions()] == [(119.9, 120.0)]


def test_only_the_same_recording_replaces_a_stream(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    for place in ('a', 'b'):
        (tmp_path / place).mkdir()
    ours = video(tmp_path / 'a' / 'run.avi', 10)
    write_all(out, streams(ours, caption_line(0, 0.2, 'old')))
    write_all(out, streams(ours, caption_line(0, 0.2, 'new')))
    assert read_stream(out / 'run').annotations[0].text == 'new'
    with pytest.raises(InputError, match=r'out/run.*b/run\.avi'):
        write_all(
            out, streams(video(tmp_path / 'b' / 'run.avi', 10), caption_line(0, 0.2, 'other'))
        )
    assert read_stream(out / 'run').annotations[0].text == 'new'


def test_an_import_replaces_all_earlier_streams_of_its_cameras(tmp_path: Path) -> None:
    out, place = tmp_path / 'out', tmp_path / 'run'
    split = streams(bag(place, rows([0.0, 0.1, 0.2, 9.0, 9.1])), caption_line(0, 0.2))
    rear = [replace(s, name='run-rear', meta={**s.meta, 'camera': 'rear'}) for s in split[:1]]
    other = streams(video(tmp_path / 'other.avi', 10), caption_line(0, 0.2))
    for found in (split, rear, other):
        write_all(out, found)
    (out / 'notes').mkdir()
    shutil.rmtree(place)
    whole = streams(bag(place, rows([0.0, 0.1, 0.2])), caption_line(0, 0.2))
    assert write_all(out, whole) == ['run']
    assert {path.name for path in out.iterdir()} == {'run', 'run-rear', 'other', 'notes'}


def test_a_folder_that_is_not_a_stream_is_never_replaced(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / 'shots', 3)
    with pytest.raises(InputError, match='shots'):
        write_all(tmp_path, streams(folder, caption_line(0, 0.2)))
    assert len(list(folder.iterdir())) == 3
    assert cv2.imread(str(folder / '2.png')).tolist() == gray(2).tolist()
