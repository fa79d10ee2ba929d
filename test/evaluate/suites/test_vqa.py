# SPDX-License-Identifier: Apache-2.0
"""Suite vqa: questions, their balance, and chance level without vision."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.questions import UNKNOWN, LabeledQuestion, prompts
from vljepa_ros.evaluate.balanced_questions import CHOICES, YES_NO, balanced
from vljepa_ros.evaluate.questions import Posed
from vljepa_ros.evaluate.suites.vqa import pose, vqa


def posed_question(task: str, answer: str, topic: str = 'doing', kind: str = YES_NO) -> Posed:
    item = Annotation(0, 1, 'rest', 'rest', task, 'door', 'red')
    question = LabeledQuestion('?', answer, answer, kind, ('yes', 'no'), topic)
    return Posed(Stream(Path('x'), 0, (), {}), item, 0.5, question)


@pytest.fixture
def streams(tmp_path: Path) -> list[Stream]:
    """Return streams of opening drawers, in light and dark, with and without a distractor."""
    scenes = []
    for i, thing in enumerate(('blue tin', '')):
        more = {'thing': thing, 'episode': i}
        scenes += [
            annotation('rest', 'drawer-open', object_state='closed', **more),
            annotation('reach', 'drawer-open', object_state='closed', **more),
            annotation('act', 'drawer-open', **more),
            annotation('done', 'drawer-open', object_state='open', success=True, **more),
            annotation('dark', 'drawer-open', light=False, **more),
            annotation('covered', 'drawer-open', light=False, covered=True, **more),
        ]
    return [film(tmp_path, 'a', scenes), film(tmp_path, 'b', scenes)]


def test_yes_and_no_are_balanced_within_topic_and_task() -> None:
    pool = [posed_question('door-open', 'yes')] * 5 + [posed_question('door-open', 'no')] * 2
    pool += [posed_question('door-close', 'yes')] * 3  # nothing to balance them with
    pool += [posed_question('door-open', 'yes', 'rest')] * 3 + [
        posed_question('door-open', 'no', 'rest')
    ]
    pool += [posed_question('door-open', 'red', '', 'colour')] * 4
    kept = balanced(pool, np.random.default_rng(0))
    assert Counter((p.question.topic, p.question.answer) for p in kept) == {
        ('doing', 'yes'): 2,
        ('doing', 'no'): 2,
        ('rest', 'yes'): 1,
        ('rest', 'no'): 1,
        ('', 'red'): 4,
    }
    assert {p.item.task for p in kept} == {'door-open'}


def test_unanswerable_questions_are_not_posed(streams: list[Stream]) -> None:
    posed = pose(context(streams))
    assert posed and all(p.question.meaning != UNKNOWN for p in posed)
    kinds = {p.question.kind for p in posed}
    assert kinds == {YES_NO, *CHOICES}
    topics = {p.question.topic for p in posed if p.question.kind == YES_NO}
    assert {'covered', 'rest', 'moving', 'doing', 'finished', 'state', 'present'} <= topics
    assert posed == pose(context(streams))


def test_questions_are_held_out_paraphrases(streams: list[Stream]) -> None:
    training_prompts = {
        prompt for topic in ('covered', 'rest', 'moving') for prompt in prompts(topic)
    }
    assert not training_prompts & {p.question.prompt for p in pose(context(streams))}


def test_a_constant_yes_has_an_accuracy_of_one_half(streams: list[Stream]) -> None:
    report = vqa(context(streams, ToyVision(answer='yes')))
    found = {(r.who, r.what): r for r in report.rows}
    assert found['ours', YES_NO].mean.value == pytest.approx(0.5)
    assert found['blind', YES_NO].mean.value == pytest.approx(0.5)
    assert found['ours', YES_NO].target == 0.88 and found['blind', YES_NO].reached is True
    for who in ('ours', 'oracle', 'blind'):
        topics = {w: r.mean for (name, w), r in found.items() if name == who and ': ' in w}
        assert {'yes/no: state', 'colour: colour', 'object: object', 'thing: thing'} <= set(topics)
        parts = sum(m.count for m in topics.values())
        assert parts == found[who, 'all'].mean.count
    assert found['ours', 'yes/no: covered'].mean.value == pytest.approx(0.5)


def test_the_oracle_is_always_correct_and_a_constant_choice_is_not(streams: list[Stream]) -> None:
    report = vqa(context(streams, ToyVision(answer='nothing')))
    found = {(r.who, r.what): r.mean for r in report.rows}
    for name in (YES_NO, 'choices', 'all'):
        assert found['oracle', name].value == 1.0
    # Half of the moments that show the scene have no thing beside the drawer.
    assert found['ours', 'thing: thing'].value == pytest.approx(0.5)
    assert found['ours', 'all'].count == sum(
        found['ours', name].count for name in (YES_NO, 'choices')
    )


def test_streams_without_questions_give_rows_without_items(tmp_path: Path) -> None:
    report = vqa(context([film(tmp_path, 'a', [])]))
    assert all(r.mean.count == 0 for r in report.rows)
