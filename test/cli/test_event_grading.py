# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.cli.event_grading import (
    TextSpan,
    TimedQuestion,
    TrueEvent,
    constant_text_f1,
    grade,
    read_questions,
    read_true_events,
    vision_blind_f1,
)
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Candidate

OPENS, CLOSED = 'the robot opens the red door', 'the red door is closed'
ANNOTATIONS = [
    TrueEvent(0.0, 5.0, 'rest', 'the arm stays where it is'),
    TrueEvent(5.0, 8.0, 'act:door-open:red', 'the robot gets the red door open'),
    TrueEvent(8.0, 12.0, 'rest', 'the arm stays where it is'),
]
REST = 'the arm is at rest'


def test_perfect_events_have_perfect_metrics() -> None:
    metrics = grade(
        [TextSpan(0, 5, REST), TextSpan(5, 8, OPENS), TextSpan(8, 12, REST)], ANNOTATIONS
    )
    assert (metrics.precision, metrics.recall, metrics.f1) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(('start', 'matches'), [(3.5, 1), (6.5, 1), (3.4, 0), (6.6, 0)])
def test_an_onset_matches_within_1_5_seconds(start: float, matches: int) -> None:
    assert grade([TextSpan(start, 9, OPENS)], ANNOTATIONS).matched == matches


@pytest.mark.parametrize(
    ('text', 'matches'),
    [
        (OPENS, 1),
        ('the robot opens the door', 1),
        ('the robot opens the blue door', 0),
        (CLOSED, 0),
        ('the robot opens the red drawer', 0),
        ('the robot closes the red door', 0),
        ('the arm moves toward the red door', 0),
        (REST, 0),
        ('', 0),
    ],
)
def test_a_text_must_name_the_right_object_and_action(text: str, matches: int) -> None:
    assert grade([TextSpan(5, 8, text)], ANNOTATIONS).matched == matches


def test_an_annotation_is_matched_once() -> None:
    metrics = grade([TextSpan(5, 6, OPENS), TextSpan(6, 7, OPENS)], ANNOTATIONS)
    assert (
        metrics.matched == 1
        and metrics.precision == 0.5
        and metrics.recall == pytest.approx(1 / 3)
    )


def test_the_matching_is_maximal() -> None:
    """The first event fits both annotations, the second only the one that a greedy match takes."""
    annotations = [TrueEvent(0, 1, 'rest', ''), TrueEvent(1.0, 2, 'rest', '')]
    assert grade([TextSpan(0.5, 1, REST), TextSpan(-1.0, 1, REST)], annotations).matched == 2


def test_no_events_give_zero_metrics() -> None:
    metrics = grade([], ANNOTATIONS)
    assert (metrics.precision, metrics.recall, metrics.f1) == (0.0, 0.0, 0.0)


def test_adjacent_annotations_of_one_concept_are_merged(tmp_path: Path) -> None:
    rows = [
        {'start': a, 'end': b, 'meaning': m, 'sentence': m, 'phase': '', 'task': ''}
        for a, b, m in ((0, 2, 'rest'), (2, 3, 'rest'), (3, 4, 'dark'), (4, 5, 'rest'))
    ]
    (tmp_path / 'ground_truth.json').write_text(json.dumps({'annotations': rows}))
    assert [(t.start, t.end, t.meaning) for t in read_true_events(tmp_path)] == [
        (0, 3, 'rest'),
        (3, 4, 'dark'),
        (4, 5, 'rest'),
    ]


def test_missing_and_damaged_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'ground_truth\.json'):
        read_true_events(tmp_path)
    (tmp_path / 'questions.json').write_text('[')
    with pytest.raises(InputError, match=r'questions\.json'):
        read_questions(tmp_path)


ROW = {'start': 0.0, 'end': 1.0, 'meaning': 'rest', 'sentence': 'the arm is at rest'}
QUESTION = {
    'kind': 'open',
    'at': 1.0,
    'prompt': '?',
    'candidates': [],
    'meaning': 'rest',
    'answer': 'the arm is at rest',
}


@pytest.mark.parametrize(
    ('values', 'named'),
    [
        ({}, "'annotations'"),
        ([], "'annotations'"),
        ({'annotations': {}}, "'annotations'"),
        ({'annotations': []}, "'annotations'"),
        ({'annotations': [7]}, 'entry 0'),
        ({'annotations': [{'start': 0.0, 'end': 1.0, 'meaning': 'rest'}]}, "'sentence'"),
        ({'annotations': [ROW, {**ROW, 'start': '1'}]}, "entry 1: 'start'"),
        ({'annotations': [{**ROW, 'end': float('nan')}]}, "'end'"),
        ({'annotations': [{**ROW, 'meaning': 'act:fly:red'}]}, 'act:fly:red'),
    ],
)
def test_an_invalid_annotation_names_its_file_and_key(
    tmp_path: Path, values: object, named: str
) -> None:
    (tmp_path / 'ground_truth.json').write_text(json.dumps(values))
    with pytest.raises(InputError, match=r'ground_truth\.json') as raised:
        read_true_events(tmp_path)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ('values', 'named'),
    [
        ({}, 'list'),
        ([{'kind': 'open'}], "'at'"),
        ([{**QUESTION, 'at': None}], "'at'"),
        ([{**QUESTION, 'candidates': 'yes'}], "'candidates'"),
        ([{**QUESTION, 'candidates': [1]}], "'candidates'"),
        ([{**QUESTION, 'meaning': 'act:fly:red'}], 'act:fly:red'),
    ],
)
def test_an_invalid_question_names_its_file_and_key(
    tmp_path: Path, values: object, named: str
) -> None:
    (tmp_path / 'questions.json').write_text(json.dumps(values))
    with pytest.raises(InputError, match=r'questions\.json') as raised:
        read_questions(tmp_path)
    assert named in str(raised.value)


def test_open_answers_match_by_concept_others_by_text() -> None:
    question = TimedQuestion(
        'open', 1.0, '?', (), 'act:door-open:red', 'the robot gets the red door open'
    )
    assert question.is_answered_by(OPENS) and not question.is_answered_by(CLOSED)
    question = TimedQuestion('yes/no', 1.0, '?', ('yes', 'no'), 'no', 'no')
    assert question.is_answered_by('no') and not question.is_answered_by('yes')


def test_f1_of_the_constant_text_baseline() -> None:
    events = [TextSpan(0, 5, OPENS), TextSpan(5, 8, OPENS), TextSpan(8, 12, OPENS)]
    assert constant_text_f1(events, ANNOTATIONS, 'rest') == pytest.approx(2 / 3)


class UniformScores:
    """Gives every candidate the same score."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 2), np.float32)

    def rank(self, vector: np.ndarray, candidates: list[str]) -> list[Candidate]:
        return [Candidate(text, 1 / len(candidates)) for text in candidates]


def test_the_vision_blind_baseline_is_chance_for_an_uninformative_prompt() -> None:
    events = [TextSpan(0, 5, OPENS), TextSpan(5, 8, OPENS), TextSpan(8, 12, OPENS)]
    assert vision_blind_f1(events, ANNOTATIONS, UniformScores(), 'x') == pytest.approx(
        0.5, abs=0.08
    )  # type: ignore[arg-type]
