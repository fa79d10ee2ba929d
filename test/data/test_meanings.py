# SPDX-License-Identifier: Apache-2.0
"""Wordings, their lists, the lexicon, the questions: plain facts, no simulator."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream import questions
from vljepa_ros.data.mwstream.meanings import LISTS, is_right, meanings, sentences
from vljepa_ros.data.mwstream.tasks import (
    COLOUR_NAMES,
    TASKS,
    TEST_TASKS,
    TRAIN_TASKS,
    held_out_colour,
    meaning_of,
    training_colours,
)
from vljepa_ros.errors import InputError

ALL = meanings(tuple(TASKS))


def test_fifty_tasks_of_which_five_are_never_trained() -> None:
    assert len(TASKS) == 50 and len(TRAIN_TASKS) == 45
    assert set(TEST_TASKS) == {
        'bin-picking',
        'box-close',
        'door-lock',
        'door-unlock',
        'hand-insert',
    }


def test_the_three_lists_share_no_sentence() -> None:
    said = [{text for meaning in ALL for text in sentences(meaning, which)} for which in LISTS]
    assert not said[0] & said[1] and not said[0] & said[2] and not said[1] & said[2]


@pytest.mark.parametrize('which', LISTS)
def test_every_wording_is_right_about_its_own_meaning(which: str) -> None:
    wrong = [
        (meaning, text)
        for meaning in ALL
        if meaning in ('rest', 'dark') or ':red' in meaning
        for text in sentences(meaning, which)
        if not is_right(meaning, text)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ('meaning', 'text'),
    [
        ('act:drawer-open:red', 'the robot closes the red drawer'),
        ('act:drawer-open:red', 'the robot opens the blue drawer'),
        ('act:drawer-open:red', 'the robot opens the red window'),
        ('act:drawer-open:red', 'the red drawer is open'),
        ('act:drawer-open:red', 'the arm moves toward the red drawer'),
        ('reach:drawer:red', 'the robot opens the red drawer'),
        ('rest', 'it is dark'),
        ('dark', 'the arm is at rest'),
        ('act:plate-slide:green', 'the robot slides the green plate sideways into the goal'),
    ],
)
def test_one_wrong_slot_is_not_right(meaning: str, text: str) -> None:
    assert not is_right(meaning, text)


def test_one_combination_a_task_is_held_out_of_training() -> None:
    seen = set(meanings(TRAIN_TASKS, held_out_colours=False))
    for task in TRAIN_TASKS:
        assert len(training_colours(task)) == len(COLOUR_NAMES) - 1
        assert meaning_of(task, 'act', held_out_colour(task)) not in seen
    assert seen < set(ALL)


def test_an_unknown_meaning_is_named() -> None:
    with pytest.raises(InputError, match="unknown meaning 'act:fly:red'"):
        sentences('act:fly:red')


def annotation(phase: str, light: bool = True) -> Annotation:
    return Annotation(
        0, 5, meaning_of('drawer-open', phase, 'red'), phase, 'drawer-open', 'drawer', 'red', light
    )


@pytest.mark.parametrize('which', LISTS)
@pytest.mark.parametrize('phase', ['rest', 'reach', 'act', 'done'])
def test_questions_have_true_answers(phase: str, which: str) -> None:
    truth = {'rest': ('rest',), 'moving': ('reach', 'act')}
    for seed in range(30):
        for asked in questions.questions(annotation(phase), np.random.default_rng(seed), which):
            if asked.candidates:
                assert asked.answer in asked.candidates
            if asked.prompt in questions.REST[which]:
                assert asked.answer == ('yes' if phase in truth['rest'] else 'no')
            if asked.prompt in questions.MOVING[which]:
                assert asked.answer == ('yes' if phase in truth['moving'] else 'no')
            if asked.prompt in questions.LIGHT[which]:
                assert asked.answer == 'yes'
            if asked.kind == 'colour':
                assert asked.answer == 'red'
            if asked.kind == 'object':
                assert asked.answer == 'the red drawer'
            if asked.kind == 'yes/no' and 'opening the red drawer' in asked.prompt:
                assert asked.answer == ('yes' if phase == 'act' else 'no')


def test_in_the_dark_only_the_light_is_asked_about() -> None:
    asked = questions.questions(annotation('dark', light=False), np.random.default_rng(0))
    assert [q.kind for q in asked] == ['caption', 'yes/no']
    assert asked[1].answer == ('no' if asked[1].prompt in questions.LIGHT['train'] else 'yes')


def test_the_first_wording_of_an_answer_is_its_text() -> None:
    for seed in range(20):
        for asked in questions.questions(annotation('act'), np.random.default_rng(seed)):
            if asked.kind != 'caption':
                assert questions.answers(asked.meaning)[0] == asked.answer
