# SPDX-License-Identifier: Apache-2.0
"""Phases of recorded episodes and their annotations, with expectations calculated by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.simulators.mwstream.labels import annotate, labels_of, phases
from vljepa_ros.data.simulators.mwstream.record import Episode, EpisodePlan, Instant, Prop, Thing


def runs(names: list[str]) -> list[tuple[str, int]]:
    """Return names with the length of each run."""
    found: list[tuple[str, int]] = []
    for name in names:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


@pytest.mark.parametrize(
    ('count', 'contact', 'moved', 'success', 'expected'),
    [
        (60, 20, 35, 50, [('reach', 20), ('contact', 15), ('act', 15), ('done', 10)]),
        (60, 20, 23, 50, [('reach', 20), ('act', 30), ('done', 10)]),  # a short contact: act
        (60, 3, 5, 50, [('act', 50), ('done', 10)]),  # a short reach joins the act
        (60, 45, 48, 50, [('reach', 40), ('act', 10), ('done', 10)]),  # its last second is act
        (60, -1, -1, 50, [('reach', 40), ('act', 10), ('done', 10)]),  # nothing to touch
        (60, -1, -1, -1, [('reach', 60)]),  # never there
        (60, 30, -1, -1, [('reach', 30), ('contact', 30)]),  # stopped while it held
        (60, 55, -1, -1, [('reach', 60)]),  # stopped at a touch
        (60, 30, 32, -1, [('reach', 30), ('act', 30)]),  # stopped while it acted
        (30, 2, 20, 28, [('contact', 18), ('act', 10), ('done', 2)]),  # it touched from the start
    ],
)
def test_phases_run_in_one_direction(
    count: int, contact: int, moved: int, success: int, expected: list[tuple[str, int]]
) -> None:
    assert runs(phases(count, contact, moved, success)) == expected


def episode(**lengths: int) -> Episode:
    """Return an episode of drawer-open with phases of these lengths (frames), in this order."""
    plan = EpisodePlan('drawer-open', 'red', (1,), 1, 0.0, 0, 0)
    recorded = Episode(plan, success=True)
    for phase, length in lengths.items():
        state = {'rest': 'closed', 'done': 'open'}.get(phase, '')
        recorded.instants += [Instant(np.zeros(1), 1.0, False, False, 0.0, state)] * length
        recorded.phases += [phase] * length
        recorded.tasks += ['drawer-open'] * length
    return recorded


def annotated(
    recorded: Episode,
    prop: Prop | None = None,
    dark: slice = slice(0),
    covered: slice = slice(0),
) -> tuple[list[Annotation], list[tuple[str, float, float]]]:
    """Return the annotations, and (concept, start, end) of each."""
    count = len(recorded.instants)
    light, cover = np.ones(count), np.zeros(count)
    light[dark], cover[covered] = 0.0, 1.0
    found = annotate(labels_of(recorded, 0, prop), light, cover)
    return found, [(a.meaning, a.start, a.end) for a in found]


def test_annotations_tile_the_stream_and_have_texts() -> None:
    found, meanings = annotated(episode(rest=20, reach=30, act=20, done=10))
    assert meanings == [
        ('rest', 0.0, 2.0),
        ('reach:drawer:red', 2.0, 5.0),
        ('act:drawer-open:red', 5.0, 7.0),
        ('done:drawer-open:red', 7.0, 8.0),
    ]
    assert [a.object_state for a in found] == ['closed', '', '', 'open']
    assert [a.success for a in found] == [False, False, False, True]
    assert 'drawer' in found[2].text and found[2].text != found[3].text


def test_darkness_interrupts_a_phase_that_continues_afterwards() -> None:
    found, meanings = annotated(episode(rest=10, act=40), dark=slice(20, 30))
    assert meanings == [
        ('rest', 0.0, 1.0),
        ('act:drawer-open:red', 1.0, 2.0),
        ('dark', 2.0, 3.0),
        ('act:drawer-open:red', 3.0, 5.0),
    ]
    assert [a.light for a in found] == [True, True, False, True]


def test_covered_has_precedence_over_dark_and_dark_over_appearing_objects() -> None:
    prop = Prop(Thing('tin', 'blue', (0.0, 0.5)), 20, 60)
    found, meanings = annotated(episode(rest=60), prop, dark=slice(25, 45), covered=slice(40, 50))
    assert meanings == [
        ('rest', 0.0, 2.0),
        ('appear:tin:blue', 2.0, 2.5),
        ('dark', 2.5, 4.0),
        ('covered', 4.0, 5.0),
        ('rest', 5.0, 6.0),
    ]
    assert found[3].covered and not found[3].light and not found[2].covered
    assert [a.thing for a in found] == ['', 'blue tin', 'blue tin', 'blue tin', 'blue tin']


def test_appearing_and_disappearing_objects_are_labeled_for_one_second() -> None:
    prop = Prop(Thing('egg', 'white', (0.0, 0.5)), 20, 40)
    found, meanings = annotated(episode(rest=70), prop)
    assert meanings == [
        ('rest', 0.0, 2.0),
        ('appear:egg:white', 2.0, 3.0),
        ('rest', 3.0, 4.0),
        ('gone:egg:white', 4.0, 5.0),
        ('rest', 5.0, 7.0),
    ]
    assert [a.thing for a in found] == ['', 'white egg', 'white egg', '', '']


def test_objects_present_in_the_first_frame_do_not_appear() -> None:
    _, meanings = annotated(episode(rest=30), Prop(Thing('egg', 'white', (0.0, 0.5)), 0, 30))
    assert meanings == [('rest', 0.0, 3.0)]


def test_a_phase_under_eight_tenths_joins_the_next() -> None:
    _, meanings = annotated(episode(rest=20, reach=7, act=20))
    assert meanings == [('rest', 0.0, 2.0), ('act:drawer-open:red', 2.0, 4.7)]
    _, meanings = annotated(episode(rest=20, reach=8, act=20))
    assert len(meanings) == 3


def test_the_short_remainder_of_a_phase_before_darkness_joins_the_previous_one() -> None:
    _, meanings = annotated(episode(rest=20, act=25), dark=slice(25, 35))
    assert meanings == [
        ('rest', 0.0, 2.5),
        ('dark', 2.5, 3.5),
        ('act:drawer-open:red', 3.5, 4.5),
    ]


def test_an_undone_act_is_labeled_with_the_inverse_task() -> None:
    recorded = episode(act=20, done=10)
    for phase in ('act', 'done'):
        recorded.instants += [Instant(np.zeros(1), 1.0, False, False, 0.0, '')] * 10
        recorded.phases += [phase] * 10
        recorded.tasks += ['drawer-close'] * 10
    _, meanings = annotated(recorded)
    assert [m for m, _, _ in meanings] == [
        'act:drawer-open:red',
        'done:drawer-open:red',
        'act:drawer-close:red',
        'done:drawer-close:red',
    ]
