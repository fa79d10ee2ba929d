# SPDX-License-Identifier: Apache-2.0
"""Sampling of clips and of their questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic_streams import film

from vljepa_ros.data.format import (
    AnnotatedQuestion,
    Annotation,
    Stream,
    StreamData,
    read_stream,
    write_stream,
)
from vljepa_ros.train.augmentation import Augmentation, damaged
from vljepa_ros.train.clips import PLACES, STATE, ClipSampler, _without_cut, moved, states


def annotated_stream(folder: Path) -> Stream:
    """Return six seconds, two of them annotated, with one question about the fourth second."""
    frames = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None, None], 8, axis=1)
    annotations = (
        Annotation(0.0, 2.0, '', 'none', '', '', ''),
        Annotation(2.0, 4.0, 'say:it rains', 'told', '', '', '', text='It rains.'),
        Annotation(4.0, 6.0, '', 'none', '', '', ''),
    )
    questions = (AnnotatedQuestion(3.0, 3.1, 'Does it rain?', 'Yes', ('yes', 'no')),)
    data = StreamData(
        'rain',
        np.repeat(np.repeat(frames, 8, axis=2), 3, axis=3),
        np.arange(60, dtype=np.int64) * 100_000_000,
        annotations,
        {'rate_hz': 10},
        questions=questions,
    )
    return read_stream(write_stream(folder, data))


@pytest.fixture
def squares(tmp_path: Path) -> list[Stream]:
    folder = tmp_path / 'train'
    return [read_stream(write_stream(folder, film(f's{seed}', seed))) for seed in range(3)]


def test_clips_end_in_acts_more_often_than_at_rest(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 0)
    clips = [sampler.draw(4, 1) for _ in range(1000)]
    assert all(c.frames.shape[:2] == (4, 2) and len(c.annotations) == 4 for c in clips)
    newest = Counter(c.annotations[-1].phase for c in clips)
    assert newest['act'] > 1.5 * newest['rest'] > 0
    assert len({c.annotations[-1].task for c in clips}) == 6


def test_appearing_objects_are_drawn_more_often_with_longer_clips(tmp_path: Path) -> None:
    data = film('s0', 0)
    turned = tuple(
        replace(item, phase='appear') if item.phase == 'rest' else item
        for item in data.annotations
    )
    stream = read_stream(write_stream(tmp_path, replace(data, annotations=turned)))
    sampler = ClipSampler([stream], 2, 0)
    share = {
        tubelets: np.mean(
            [sampler.draw(tubelets, 0).annotations[-1].phase == 'appear' for _ in range(1000)]
        )
        for tubelets in (1, 4)
    }
    assert share[4] > share[1] + 0.06  # a clip ends a little after the drawn time
    only = tuple(replace(item, phase='appear') for item in data.annotations)
    alone = read_stream(write_stream(tmp_path / 'b', replace(data, annotations=only)))
    assert ClipSampler([alone], 2, 0).draw(1, 0).annotations[-1].phase == 'appear'


def test_a_fifth_of_the_questions_is_unanswerable(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 0)
    questions = [q for _ in range(300) for q, _ in sampler.draw(1, 2).questions]
    share = np.mean([q.meaning == 'unknown' for q in questions])
    assert 0.14 < share < 0.26
    topics = Counter(q.topic for q in questions)
    assert topics['doing'] > topics['light']


def test_questions_with_rare_answers_are_drawn_more_often(squares: list[Stream]) -> None:
    sampler, answers = ClipSampler(squares, 2, 0), Counter[tuple[str, str]]()
    for _ in range(600):
        answers.update((q.topic, q.meaning) for q, _ in sampler.draw(1, 2).questions)
    # Half the stream rests, but acts are drawn five times as often: without balance 8 times.
    assert answers['rest', 'yes'] > answers['rest', 'no'] / 3
    assert answers['doing', 'yes'] > answers['doing', 'no'] / 2


def test_answers_hold_at_the_tubelets_of_their_annotation(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 1)
    for _ in range(50):
        clip = sampler.draw(8, 2)
        for question, holds in clip.questions:
            assert holds and len({clip.annotations[t].meaning for t in holds}) == 1
            if question.topic == 'rest':
                resting = clip.annotations[holds[0]].phase == 'rest'
                assert question.answer == ('yes' if resting else 'no')


def test_annotated_questions_are_posed_at_their_time(tmp_path: Path) -> None:
    sampler = ClipSampler([annotated_stream(tmp_path)], 2, 0)
    drawn = 0
    for _ in range(100):
        clip = sampler.draw(2, 1)
        newest = clip.annotations[-1]
        assert newest.phase in ('told', 'none')
        for question, holds in clip.questions:
            if question.kind != 'told':
                continue
            drawn += 1
            assert (question.prompt, question.meaning) == ('Does it rain?', 'yes')
            times = clip.frames[holds, :, 0, 0, 0].astype(int)
            assert len(holds) == 1 and times.size == 2
    assert drawn > 20


def test_rare_annotated_texts_are_drawn_more_often_than_by_duration(tmp_path: Path) -> None:
    """The stream has nine spans of one concept and one span of another, one second each."""
    base = film('s0', 0)
    annotations = tuple(
        Annotation(k, k + 1, 'say:a' if k else 'say:b', 'told', '', '', '', text='ab'[k == 0])
        for k in range(10)
    )
    frames, stamps = base.frames[:100], base.stamps_ns[:100]
    data = replace(base, frames=frames, stamps_ns=stamps, annotations=annotations)
    sampler = ClipSampler([read_stream(write_stream(tmp_path, data))], 2, 0)
    drawn = Counter(sampler.draw(1, 0).annotations[-1].meaning for _ in range(1000))
    assert drawn['say:b'] > 200  # by spans: 100


def test_clips_are_drawn_at_the_streams_own_rate(tmp_path: Path) -> None:
    """At 5 frames/s, the last two of ten seconds are frames 40 to 49."""
    base = film('s0', 0)
    frames = np.zeros((50, 8, 8, 3), np.uint8)
    frames[40:] = 200
    annotations = (
        Annotation(0, 8, '', 'none', '', '', ''),
        Annotation(8, 10, 'say:a', 'told', '', '', '', text='a'),
    )
    data = replace(
        base,
        frames=frames,
        stamps_ns=np.arange(50) * 200_000_000,
        annotations=annotations,
        meta={'rate_hz': 5.0},
    )
    sampler = ClipSampler([read_stream(write_stream(tmp_path, data))], 2, 0)
    for _ in range(50):
        clip = sampler.draw(4, 0)
        lit = clip.frames[:, -1].mean((1, 2, 3)) > 50
        assert [bool(item.meaning) for item in clip.annotations] == lit.tolist()
        assert lit[-1]


def test_missing_state_is_nan(squares: list[Stream]) -> None:
    assert np.isnan(states(squares[0])).all()


def test_visible_is_lit_and_not_covered(tmp_path: Path) -> None:
    data = film('s', 0)
    count = len(data.frames)
    level = {name: np.ones(count) for name in ('gripper', 'contact', 'light')}
    level['cover'], level['opening'] = np.zeros(count), np.full(count, np.nan)
    level['light'][5], level['cover'][7] = 0.0, 1.0
    found = states(read_stream(write_stream(tmp_path, replace(data, state=level))))
    visible = found[:, STATE.index('visible')]
    assert visible[5] == visible[7] == 0.0 and visible.sum() == count - 2
    assert np.isnan(found[:, STATE.index('opening')]).all()


def test_image_corruption_changes_images_but_keeps_black_frames_black() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for _ in range(20):
        seen, black = damaged([image, np.zeros_like(image)], rng)
        assert seen.shape == image.shape and seen.dtype == np.uint8
        assert (seen != image).any() and black.max() <= 2


@pytest.mark.parametrize('side', [96, 160])
@pytest.mark.parametrize('region', [(0.0, 0.0, 1.0, 1.0), (0.2, 0.3, 0.5, 0.6)])
def test_augmentation_maps_points_to_where_they_appear(
    side: int, region: tuple[float, ...]
) -> None:
    """A white dot on black is tracked through 30 random augmentations of a region."""
    rng, region = np.random.default_rng(4), np.array(region)
    image = np.zeros((side, side, 3), np.uint8)
    x, y = round(0.42 * side), round(0.63 * side)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    place = np.array([[(x + 0.5) / side, (y + 0.5) / side]], np.float32)
    seen = 0
    for _ in range(30):
        change = replace(Augmentation.draw(96, rng), bars=np.zeros((96, 96), bool))
        random = np.random.default_rng(0)
        white = change.apply(image[None], region[None], random)[0].max(axis=-1) > 100
        [expected] = change.place(place, region[None])
        if np.isnan(expected).any() or not white.any():
            continue
        rows, columns = np.nonzero(white)
        found = (np.array([columns.mean(), rows.mean()]) + 0.5) / 96
        np.testing.assert_allclose(found, expected, atol=0.02)
        seen += 1
    assert seen > 20


def test_positions_are_nan_in_the_dark_and_outside_the_image(
    tmp_path: Path,
) -> None:
    data = film('s', 0)
    count = len(data.frames)
    level = {name: np.full(count, 0.5) for name in PLACES}
    level |= {'light': np.ones(count), 'cover': np.zeros(count)}
    level['light'][5] = 0.0
    found = states(read_stream(write_stream(tmp_path, replace(data, state=level))))
    columns = [STATE.index(name) for name in PLACES]
    assert np.isnan(found[5, columns]).all() and (found[6, columns] == 0.5).all()
    whole = np.tile([0.0, 0.0, 1.0, 1.0], (len(found), 1))
    away = replace(
        Augmentation.draw(96, np.random.default_rng(0)),
        warp=np.array([[1.0, 0.0, 60.0], [0.0, 1.0, 0.0]]),
    )
    assert np.isnan(moved(found, away, whole)[6, columns]).all()


@pytest.mark.parametrize(
    ('first', 'length', 'expected'),
    [
        (4, 8, 4),  # within the first shot
        (12, 8, 16),  # ends in the second shot
        (10, 6, 10),  # ends with the first shot
        (0, 20, 0),  # longer than a shot
        (35, 4, 35),  # last shot of 8 frames
        (30, 4, 32),
    ],
)
def test_clips_do_not_cross_cuts(first: int, length: int, expected: int) -> None:
    assert _without_cut([0, 16, 32], first, length, 40) == expected
