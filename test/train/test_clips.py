# SPDX-License-Identifier: Apache-2.0
"""Drawing of clips and of their questions."""

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
from vljepa_ros.train.clips import PLACES, STATE, ClipSampler, moved, states


def told_stream(folder: Path) -> Stream:
    """Return six seconds, two of them annotated, with one question about the fourth second."""
    frames = np.repeat(np.arange(60, dtype=np.uint8)[:, None, None, None], 8, axis=1)
    said = (
        Annotation(0.0, 2.0, '', 'none', '', '', ''),
        Annotation(2.0, 4.0, 'say:it rains', 'told', '', '', '', text='It rains.'),
        Annotation(4.0, 6.0, '', 'none', '', '', ''),
    )
    asked = (AnnotatedQuestion(3.0, 3.1, 'Does it rain?', 'Yes', ('yes', 'no')),)
    data = StreamData(
        'rain',
        np.repeat(np.repeat(frames, 8, axis=2), 3, axis=3),
        np.arange(60, dtype=np.int64) * 100_000_000,
        said,
        {'rate_hz': 10},
        questions=asked,
    )
    return read_stream(write_stream(folder, data))


@pytest.fixture
def squares(tmp_path: Path) -> list[Stream]:
    folder = tmp_path / 'train'
    return [read_stream(write_stream(folder, film(f's{seed}', seed))) for seed in range(3)]


def test_a_clip_ends_where_its_annotation_is(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 0)
    clips = [sampler.draw(4, 1) for _ in range(1000)]
    assert all(c.frames.shape[:2] == (4, 2) and len(c.shown) == 4 for c in clips)
    newest = Counter(c.shown[-1].phase for c in clips)
    assert newest['act'] > 1.5 * newest['rest'] > 0
    assert len({c.shown[-1].task for c in clips}) == 6


def test_what_appears_is_drawn_where_a_clip_can_show_it(tmp_path: Path) -> None:
    data = film('s0', 0)
    turned = tuple(
        replace(item, phase='appear') if item.phase == 'rest' else item
        for item in data.annotations
    )
    stream = read_stream(write_stream(tmp_path, replace(data, annotations=turned)))
    sampler = ClipSampler([stream], 2, 0)
    share = {
        tubelets: np.mean(
            [sampler.draw(tubelets, 0).shown[-1].phase == 'appear' for _ in range(1000)]
        )
        for tubelets in (1, 4)
    }
    assert share[4] > share[1] + 0.06  # a clip ends a little after the drawn time
    only = tuple(replace(item, phase='appear') for item in data.annotations)
    alone = read_stream(write_stream(tmp_path / 'b', replace(data, annotations=only)))
    assert ClipSampler([alone], 2, 0).draw(1, 0).shown[-1].phase == 'appear'


def test_a_fifth_of_the_questions_cannot_be_answered(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 0)
    asked = [q for _ in range(300) for q, _ in sampler.draw(1, 2).asked]
    share = np.mean([q.meaning == 'unknown' for q in asked])
    assert 0.14 < share < 0.26
    topics = Counter(q.topic for q in asked)
    assert topics['doing'] > topics['light']


def test_what_is_rarely_so_is_asked_about_more_often(squares: list[Stream]) -> None:
    sampler, said = ClipSampler(squares, 2, 0), Counter[tuple[str, str]]()
    for _ in range(600):
        said.update((q.topic, q.meaning) for q, _ in sampler.draw(1, 2).asked)
    # Half the stream rests, but acts are drawn five times as often: without balance 8 times.
    assert said['rest', 'yes'] > said['rest', 'no'] / 3
    assert said['doing', 'yes'] > said['doing', 'no'] / 2


def test_answers_hold_where_their_annotation_is_shown(squares: list[Stream]) -> None:
    sampler = ClipSampler(squares, 2, 1)
    for _ in range(50):
        clip = sampler.draw(8, 2)
        for question, holds in clip.asked:
            assert holds and len({clip.shown[t].meaning for t in holds}) == 1
            if question.topic == 'rest':
                resting = clip.shown[holds[0]].phase == 'rest'
                assert question.answer == ('yes' if resting else 'no')


def test_what_people_asked_is_asked_where_it_holds(tmp_path: Path) -> None:
    sampler = ClipSampler([told_stream(tmp_path)], 2, 0)
    met = 0
    for _ in range(100):
        clip = sampler.draw(2, 1)
        newest = clip.shown[-1]
        assert newest.phase in ('told', 'none')
        for question, holds in clip.asked:
            if question.kind != 'told':
                continue
            met += 1
            assert (question.prompt, question.meaning) == ('Does it rain?', 'yes')
            times = clip.frames[holds, :, 0, 0, 0].astype(int)
            assert len(holds) == 1 and times.size == 2
    assert met > 20


def test_what_people_say_rarely_is_met_as_often(tmp_path: Path) -> None:
    """The stream has nine spans of one concept and one span of another, one second each."""
    base = film('s0', 0)
    said = tuple(
        Annotation(k, k + 1, 'say:a' if k else 'say:b', 'told', '', '', '', text='ab'[k == 0])
        for k in range(10)
    )
    frames, stamps = base.frames[:100], base.stamps_ns[:100]
    data = replace(base, frames=frames, stamps_ns=stamps, annotations=said)
    sampler = ClipSampler([read_stream(write_stream(tmp_path, data))], 2, 0)
    met = Counter(sampler.draw(1, 0).shown[-1].meaning for _ in range(1000))
    assert met['say:b'] > 200  # by spans: 100


def test_clips_are_drawn_at_the_streams_own_rate(tmp_path: Path) -> None:
    """At 5 frames/s, the last two of ten seconds are frames 40 to 49."""
    base = film('s0', 0)
    frames = np.zeros((50, 8, 8, 3), np.uint8)
    frames[40:] = 200
    said = (
        Annotation(0, 8, '', 'none', '', '', ''),
        Annotation(8, 10, 'say:a', 'told', '', '', '', text='a'),
    )
    data = replace(
        base,
        frames=frames,
        stamps_ns=np.arange(50) * 200_000_000,
        annotations=said,
        meta={'rate_hz': 5.0},
    )
    sampler = ClipSampler([read_stream(write_stream(tmp_path, data))], 2, 0)
    for _ in range(50):
        clip = sampler.draw(4, 0)
        lit = clip.frames[:, -1].mean((1, 2, 3)) > 50
        assert [bool(item.meaning) for item in clip.shown] == lit.tolist()
        assert lit[-1]


def test_no_state_is_told_where_there_is_none(squares: list[Stream]) -> None:
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


def test_damage_changes_pictures_but_never_the_dark() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for _ in range(20):
        seen, black = damaged([picture, np.zeros_like(picture)], rng)
        assert seen.shape == picture.shape and seen.dtype == np.uint8
        assert (seen != picture).any() and black.max() <= 2


def test_things_are_where_an_augmentation_says() -> None:
    """A white dot on black is tracked through 30 random augmentations."""
    rng = np.random.default_rng(4)
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[58:63, 38:43] = 255
    place = np.array([[40.5 / 96, 60.5 / 96]], np.float32)
    seen = 0
    for _ in range(30):
        change = replace(Augmentation.draw(96, rng), bars=np.zeros((96, 96), bool))
        white = change.apply(picture[None], np.random.default_rng(0))[0].max(axis=-1) > 100
        [expected] = change.place(place)
        if np.isnan(expected).any() or not white.any():
            continue
        rows, columns = np.nonzero(white)
        found = (np.array([columns.mean(), rows.mean()]) + 0.5) / 96
        np.testing.assert_allclose(found, expected, atol=0.02)
        seen += 1
    assert seen > 20


def test_places_are_unknown_where_nothing_is_seen_or_they_left_the_picture(
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
    away = replace(
        Augmentation.draw(96, np.random.default_rng(0)),
        warp=np.array([[1.0, 0.0, 60.0], [0.0, 1.0, 0.0]]),
    )
    assert np.isnan(moved(found, away)[6, columns]).all()
