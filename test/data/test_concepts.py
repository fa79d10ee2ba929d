# SPDX-License-Identifier: Apache-2.0
"""Concepts of streams: which set a stream has, and the set of annotated recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import concepts
from vljepa_ros.data.concepts import RECORDINGS, ConceptSet
from vljepa_ros.data.format import Annotation, Stream

ACT = Annotation(0, 3, 'act:push:red', 'act', 'push', 'puck', 'red')
CAPTION = Annotation(0, 3, 'say:the cup is full', 'told', '', '', '', text='The cup is full.')
UNANNOTATED = Annotation(3, 5, '', 'none', '', '', '')


def stream(*annotations: Annotation, **meta: Any) -> Stream:
    return Stream(Path('x'), 0, annotations, meta)


def test_recordings_have_a_concept_set_without_tasks() -> None:
    found = concepts.of([stream(CAPTION, UNANNOTATED), stream()])
    assert type(found) is ConceptSet and found.tasks == () and found.concepts() == []


def test_the_simulator_in_meta_json_selects_the_concept_set() -> None:
    kitchen = concepts.of([stream(CAPTION, simulator='kitchen'), stream(CAPTION)])
    assert kitchen is concepts.named('kitchen') and len(kitchen.tasks) == 50
    assert kitchen is not concepts.named('mwstream')


def test_streams_of_earlier_versions_are_recognized() -> None:
    assert concepts.of([stream(ACT, split='train')]) is concepts.named('mwstream')
    assert concepts.of([stream(ACT, split='kitchen')]) is concepts.named('kitchen')


@pytest.mark.parametrize('names', [('mwstream', 'kitchen'), ('nope',)])
def test_several_simulators_and_unknown_ones_are_errors(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=names[0]):
        concepts.of([stream(ACT, simulator=name) for name in names])


def test_a_recorded_annotation_has_its_own_text_only() -> None:
    rng = np.random.default_rng(0)
    (question,) = RECORDINGS.questions(CAPTION, rng)
    assert (question.kind, question.answer) == ('caption', 'The cup is full.')
    assert question.meaning == CAPTION.meaning and question.candidates == ()
    assert RECORDINGS.caption(UNANNOTATED, rng, 'heldout').answer == ''
    assert RECORDINGS.sentences(CAPTION.meaning) == ('the cup is full',)
    assert RECORDINGS.expresses(CAPTION.meaning, 'the cup  is full')
    assert not RECORDINGS.expresses(CAPTION.meaning, 'the cup is empty')
    assert RECORDINGS.expresses('unknown', 'I cannot tell')
    with pytest.raises(InputError, match='act:push:red'):
        RECORDINGS.sentences('act:push:red')


def test_a_simulators_concept_set_includes_that_of_recordings() -> None:
    for item in (CAPTION, UNANNOTATED):
        one, other = (np.random.default_rng(0) for _ in range(2))
        simulator_set = concepts.named()
        assert simulator_set.questions(item, one) == RECORDINGS.questions(item, other)
    assert simulator_set.expresses(CAPTION.meaning, 'The cup is full')
    assert simulator_set.sentences('yes') == RECORDINGS.sentences('yes')
