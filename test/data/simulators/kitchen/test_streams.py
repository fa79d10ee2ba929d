# SPDX-License-Identifier: Apache-2.0
"""Kitchen streams: door movements, annotations, and one second of images."""

from __future__ import annotations

import importlib.util
import math
from ctypes.util import find_library

import numpy as np
import pytest

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.lens import draw_cover, draw_light
from vljepa_ros.data.simulators.kitchen.concepts import CONCEPTS
from vljepa_ros.data.simulators.kitchen.doors import (
    DOORS,
    Movement,
    annotate_doors,
    draw_movements,
    openings,
)
from vljepa_ros.data.simulators.mwstream.meanings import is_right, sentences
from vljepa_ros.evaluate.suites.transfer import state_in

LIT, FREE = np.ones(100), np.zeros(100)


def rows(annotations: tuple[Annotation, ...]) -> list[tuple[float, float, str, str]]:
    return [(a.start, a.end, a.meaning, a.text) for a in annotations]


@pytest.mark.parametrize('seed', range(8))
def test_doors_move_one_at_a_time_in_the_light_with_rests_between(seed: int) -> None:
    rng = np.random.default_rng(seed)
    light = draw_light(1200, 10, 15.0, (3.0, 7.0), rng)
    cover = draw_cover(light, 10, 15.0, (3.0, 7.0), rng)
    found = draw_movements(light, cover, rng)
    assert len(found) >= 4
    for m in found:
        assert 10 <= m.last - m.first <= 30 and m.door in DOORS
        around = slice(m.first - 10, m.last + 10)
        assert m.first >= 30 and m.last + 10 <= 1200
        assert (light[around] == 1).all() and (cover[around] == 0).all()
    for one, other in zip(found, found[1:], strict=False):
        between = slice(one.last - 10, other.first + 10)
        hidden = (light[between] < 1).any() or (cover[between] > 0).any()
        assert other.first - one.last >= 30
        assert hidden or other.first - one.last <= 80
    for door in DOORS:  # closed doors open, open doors close
        own = [m for m in found if m.door == door]
        assert all((m.before == 0.0) != (m.after == 0.0) for m in own)
        assert all(a.after == b.before for a, b in zip(own, own[1:], strict=False))
        assert all(0.7 <= max(m.before, m.after) <= 1.0 for m in own)


def test_equal_seeds_give_equal_movements_and_others_do_not() -> None:
    one, same, other = (
        draw_movements(np.ones(600), np.zeros(600), np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert one == same != other


def test_no_movement_is_labeled_in_permanent_darkness() -> None:
    assert draw_movements(np.zeros(600), np.zeros(600), np.random.default_rng(0)) == []


def test_a_door_accelerates_and_decelerates_smoothly_and_then_stays() -> None:
    moves = [
        Movement('slide_cabinet', 20, 40, 0.0, 0.8),
        Movement('slide_cabinet', 70, 80, 0.8, 0),
    ]
    found = openings(100, moves)
    column = found[:, list(DOORS).index('slide_cabinet')]
    assert found.shape == (100, 4) and (np.delete(found, 1, axis=1) == 0).all()
    assert (column[:21] == 0).all() and (column[40:71] == 0.8).all() and (column[80:] == 0).all()
    assert column[30] == pytest.approx(0.4)  # half way in half the time
    steps = np.diff(column[20:41])
    assert (steps > 0).all() and steps.max() == pytest.approx(0.8 * math.pi / 40, rel=0.01)
    assert steps[0] < 0.01 and steps[-1] < 0.01


def test_initially_open_doors_are_open_until_their_first_movement() -> None:
    found = openings(50, [Movement('microwave', 30, 40, 0.9, 0.0)])
    assert (found[:31, 0] == 0.9).all() and (found[40:] == 0).all()


def test_movement_final_state_and_occlusion_tile_the_stream() -> None:
    light, cover = LIT.copy(), FREE.copy()
    light[60:70] = 0.02
    cover[80:90] = 1.0
    found = annotate_doors(openings(100, [Movement('microwave', 20, 40, 0.0, 1.0)]), light, cover)
    assert rows(found) == [
        (0.0, 2.1, 'rest', 'the arm is at rest'),  # frame 21 is the first that differs
        (2.1, 4.1, 'act:door-open:any', 'the microwave door opens'),
        (4.1, 6.0, 'done:door-open:any', 'the microwave door is open'),
        (6.0, 7.0, 'dark', 'it is dark'),
        (7.0, 8.0, 'rest', 'the arm is at rest'),
        (8.0, 9.0, 'covered', 'something covers the camera'),
        (9.0, 10.0, 'rest', 'the arm is at rest'),
    ]
    assert [a.light for a in found] == [True, True, True, False, True, False, True]
    assert [a.covered for a in found] == [False] * 5 + [True, False]
    assert [a.object_state for a in found] == ['', '', 'open', '', '', '', '']
    assert {a.task for a in found} == {''}  # no task of Meta-World


def test_a_closing_door_is_labeled_closing_and_each_movement_is_counted() -> None:
    moves = [
        Movement('left_hinge_cabinet', 10, 30, 0.7, 0.0),
        Movement('right_hinge_cabinet', 60, 80, 0.0, 0.9),
    ]
    found = annotate_doors(openings(100, moves), LIT, FREE)
    assert [(a.meaning, a.object, a.episode) for a in found] == [
        ('rest', '', 0),
        ('act:door-close:any', 'left cabinet door', 0),
        ('done:door-close:any', 'left cabinet door', 0),
        ('act:door-open:any', 'right cabinet door', 1),
        ('done:door-open:any', 'right cabinet door', 1),
    ]
    assert [a.text for a in found][1:3] == [
        'the left cabinet door closes',
        'the left cabinet door is closed',
    ]


def test_all_concepts_of_the_kitchen_have_sentences_that_express_them() -> None:
    moves = [Movement(door, 25 * i + 5, 25 * i + 20, 0.0, 1.0) for i, door in enumerate(DOORS)]
    for item in annotate_doors(openings(100, moves), LIT, FREE):
        assert all(is_right(item.meaning, text, color=False) for text in sentences(item.meaning))
        assert state_in(CONCEPTS, item.text) == ('open' if item.object else '')


@pytest.mark.skipif(
    importlib.util.find_spec('mujoco') is None
    or importlib.util.find_spec('gymnasium_robotics') is None
    or find_library('OSMesa') is None,
    reason='needs gymnasium_robotics, mujoco and libosmesa6',
)
def test_images_are_deterministic_and_show_open_doors() -> None:
    from vljepa_ros.data.simulators.kitchen.scene import Kitchen, draw_view
    from vljepa_ros.data.simulators.kitchen.streams import Director

    director = Director(32)
    one, same, other = (director.film('kitchen', seed, 1.0) for seed in (40_000, 40_000, 40_001))
    assert one.frames.shape == (10, 32, 32, 3) and one.frames.dtype == np.uint8
    assert one.name == 'kitchen-40000' and one.annotations[-1].end == 1.0
    assert set(one.state) == {*DOORS, 'light', 'cover'}
    np.testing.assert_array_equal(one.frames, same.frames)
    assert (one.frames != other.frames).any() and one.frames[0].std() > 20
    kitchen = Kitchen(48)
    kitchen.enter(draw_view(np.random.default_rng(0)))
    closed = kitchen.render(np.zeros(4), 1.0).astype(float)
    for door in np.eye(4):  # each can be seen to be open
        change = np.abs(kitchen.render(door, 1.0) - closed).max(axis=2)
        assert (change > 25).mean() > 0.005
    assert kitchen.render(np.zeros(4), 0.0).max() <= 10
    np.testing.assert_array_equal(kitchen.render(np.zeros(4), 1.0), closed)
    kitchen.leave()
