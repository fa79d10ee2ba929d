# SPDX-License-Identifier: Apache-2.0
"""Targets of the probes of stage 2, and questions about clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.tiny_streaming import network

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import Question
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.train.clips import Labels
from vljepa_ros.train.vision_stage import VisionRunner


def annotation(phase: str, **more: Any) -> Annotation:
    """Return an annotation with a blue tin."""
    values = {'object_state': 'open', 'thing': 'blue tin', **more}
    return Annotation(0, 5, f'{phase}:x', phase, 'drawer-open', 'drawer', 'red', **values)


def test_what_is_seen_is_probed() -> None:
    told = CONCEPTS.label(annotation('done'))
    assert told == {
        'phase': 'done',
        'task': 'drawer-open',
        'colour': 'red',
        'object_state': 'open',
        'thing': 'tin',
        'thing_colour': 'blue',
    }
    assert told.keys() == CONCEPTS.labels.keys()
    assert all(name in CONCEPTS.labels[kind] for kind, name in told.items())
    assert CONCEPTS.label(annotation('done', thing=''))['thing'] == ''


def test_what_nobody_sees_is_not_probed() -> None:
    assert CONCEPTS.label(annotation('dark', light=False)) == {'phase': 'dark'}
    assert CONCEPTS.label(annotation('covered', covered=True)) == {'phase': 'covered'}
    assert 'thing' not in CONCEPTS.label(annotation('gone'))  # it leaves somewhen in between


@pytest.mark.parametrize('count', [1, 3, 9])
def test_questions_are_asked_only_where_their_answers_hold(tiny: Any, count: int) -> None:
    question = Question('Is it?', 'yes', 'yes', 'yes/no', ('yes', 'no'), 'state', '')
    item = annotation('done')
    clip = Labels([item] * 6, np.zeros((6, 4), np.float32), '', [(question, [2, 3, 5])])
    asker = VisionRunner(network(tiny.vision), None, np.random.default_rng(0), 1.0)  # type: ignore[arg-type]
    asked = asker._questions([clip, clip], count)
    for number in (0, 1):
        at = [item.tubelet for item in asked if item.clip == number]
        assert set(at) <= {2, 3, 5} and len(at) == len(set(at)) == min(count, 3)


def test_nothing_is_asked_of_what_nobody_knows(tiny: Any) -> None:
    """Between annotated spans there is no target concept."""
    nothing = Question('What is happening?', '', '', 'caption')
    silent = Annotation(0, 5, '', 'none', '', '', '')
    clip = Labels([silent] * 2, np.zeros((2, 4), np.float32), '', [(nothing, [0, 1])])
    asker = VisionRunner(network(tiny.vision), None, np.random.default_rng(0), 1.0)  # type: ignore[arg-type]
    assert asker._captions([clip]) == [] and asker._questions([clip], 2) == []
