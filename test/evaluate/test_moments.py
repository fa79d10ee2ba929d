# SPDX-License-Identifier: Apache-2.0
"""Selection of moments: enough context, evenly over cameras, and deterministic."""

from __future__ import annotations

from pathlib import Path

from helpers.toy_suites import annotation, film

from vljepa_ros.data.format import Annotation
from vljepa_ros.evaluate.moments import AnnotationMoment, evenly, in_turn, moments, one_an_episode


def piece(length_s: float, episode: int, phase: str = 'act') -> Annotation:
    whole = annotation(phase, episode=episode)
    return Annotation(**{**whole.__dict__, 'end': length_s})


def test_in_turn_alternates_between_the_keys_in_order() -> None:
    assert in_turn('aaabbc', key=str) == ['a', 'b', 'c', 'a', 'b', 'a']
    assert in_turn(['b1', 'a1', 'b2'], key=lambda s: s[0]) == ['b1', 'a1', 'b2']
    assert in_turn([], key=str) == []


def test_moments_have_the_requested_tasks_and_two_seconds_of_context(tmp_path: Path) -> None:
    items = [annotation('act'), annotation('reach'), annotation('act', 'soccer')]
    stream = film(tmp_path, 'a', items)  # the rest's middle is at 1.5 s
    found = moments([stream], ('push', 'soccer', 'assembly'))
    assert [m.item.phase for m in found] == ['act', 'reach', 'act']
    assert [m.at_s for m in found] == [4.5, 7.5, 10.5]
    assert [m.item.task for m in moments([stream], ('push',), ('act',))] == ['push']


def test_an_interrupted_act_counts_once_by_its_longest_piece(tmp_path: Path) -> None:
    items = [piece(1.0, 1), piece(1.5, 1, 'rest'), piece(2.0, 1), piece(1.2, 2)]
    stream = film(tmp_path, 'a', items)
    found = one_an_episode(moments([stream], ('push',), ('act',)))
    assert [(m.item.episode, round(m.item.end - m.item.start, 3)) for m in found] == [
        (1, 2.0),
        (2, 1.2),
    ]


def test_episodes_of_different_streams_are_distinct(tmp_path: Path) -> None:
    streams = [film(tmp_path, name, [annotation('act', episode=1)]) for name in 'ab']
    assert len(one_an_episode(moments(streams, ('push',), ('act',)))) == 2


def test_moments_alternate_between_cameras_and_then_between_streams(tmp_path: Path) -> None:
    acts = [annotation('act', episode=i) for i in range(3)]
    streams = [
        film(tmp_path, 'one', acts, 'corner'),
        film(tmp_path, 'two', acts, 'corner'),
        film(tmp_path, 'top', acts[:1], 'topview'),
    ]
    order = [m.stream.name for m in evenly(moments(streams, ('push',), ('act',)))]
    assert order == ['one', 'top', 'two', 'one', 'two', 'one', 'two']


def test_the_camera_of_a_stream_without_metadata_is_empty(tmp_path: Path) -> None:
    stream = film(tmp_path, 'a', [annotation('act')])
    without_meta = type(stream)(stream.folder, stream.frame_count, stream.annotations, {})
    assert AnnotationMoment(stream, stream.annotations[0]).camera == 'corner'
    assert AnnotationMoment(without_meta, stream.annotations[0]).camera == ''
