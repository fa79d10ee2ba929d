# SPDX-License-Identifier: Apache-2.0
"""ECE, AUROC and abstention rates, and the suite that reports them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from sklearn.metrics import roc_auc_score

from vljepa_ros.data.format import Annotation, open_split
from vljepa_ros.data.questions import LabeledQuestion
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.evaluate.graded_answers import Given, kind_of, reason_of
from vljepa_ros.evaluate.questions import Posed, pose
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.statistics import auroc, ece, mean, redrawn
from vljepa_ros.evaluate.suites.calibrate import (
    DRAWS,
    abstentions,
    calibrate,
    confidences,
    pose_all,
)


def test_ece_equals_a_manual_calculation() -> None:
    # Two bins of two: |0.4 - 1| and |1.5 - 2|, of four answers.
    found = ece([0.9, 0.1, 0.6, 0.3], [True, False, True, True], bins=2)
    assert found == pytest.approx((0.6 + 0.5) / 4)


def test_ece_uses_bins_of_equal_mass() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.beta(5, 1, 3000)
    right = rng.random(3000) < confidence**2
    bins = np.array_split(np.argsort(confidence), 15)
    expected = sum(len(b) / 3000 * abs(confidence[b].mean() - right[b].mean()) for b in bins)
    assert ece(confidence, right) == pytest.approx(expected)


def test_answers_of_equal_confidence_share_a_bin() -> None:
    assert ece([0.7] * 10, [True] * 7 + [False] * 3) == pytest.approx(0.0)
    assert ece([0.7] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.2)


@pytest.mark.parametrize('metric', [ece, auroc])
def test_an_answer_of_weight_two_counts_twice(metric: Any) -> None:
    rng = np.random.default_rng(0)
    confidence, weight = rng.random(90).round(2), rng.integers(0, 4, 90)
    right = rng.random(90) < confidence
    twice = metric(np.repeat(confidence, weight), np.repeat(right, weight))
    assert metric(confidence, right, weight.astype(float)) == pytest.approx(twice)
    assert math.isnan(metric(confidence, right, np.zeros(90)))


def test_auroc_counts_ordered_pairs_and_half_of_the_ties() -> None:
    # 3 > 2, 3 > 1, 1 < 2, 1 = 1
    assert auroc([3.0, 1.0, 2.0, 1.0], [True, True, False, False]) == 2.5 / 4
    assert auroc([0.1, 0.9], [True, False]) == 0.0
    assert math.isnan(auroc([0.1, 0.9], [True, True]))


def test_auroc_equals_scikit_learn() -> None:
    """Ours is called a thousand times per interval and takes a twentieth of the time."""
    rng = np.random.default_rng(0)
    score, weight = rng.random(200).round(2), rng.integers(0, 4, 200).astype(float)
    positive = rng.random(200) < score
    expected = roc_auc_score(positive, score, sample_weight=weight)
    assert auroc(score, positive, weight) == pytest.approx(expected)


def test_whole_streams_are_resampled() -> None:
    rng = np.random.default_rng(0)
    values, streams = rng.random(60), [f's{i % 7}' for i in range(60)]
    found = redrawn(lambda w: float((w * values).sum() / w.sum()), streams).interval()
    other = mean(values, clusters=streams)
    assert (found.value, found.count) == (pytest.approx(other.value), 60)
    assert (found.low, found.high) == (pytest.approx(other.low), pytest.approx(other.high))
    alone = redrawn(lambda w: float(w.sum()), ['a']).interval()
    assert alone.value == 1.0 and math.isnan(alone.low)
    assert math.isnan(redrawn(lambda w: 1.0, []).interval().value)


ACT = Annotation(2, 6, 'act:drawer-open:red', 'act', 'drawer-open', 'drawer', 'red')


@pytest.mark.parametrize(
    ('concept', 'text', 'right'),
    [
        ('yes', 'yes, it is', True),
        ('yes', 'no', False),
        ('unknown', 'I cannot tell', True),
        ('unknown', 'red', False),
        ('act:drawer-open:red', 'the robot opens the red drawer', True),
        ('act:drawer-open:red', 'the robot closes the red drawer', False),
        ('say:a cat sits', 'A cat  sits.', True),
        ('say:a cat sits', 'a dog sits', False),
    ],
)
def test_a_text_is_correct_if_it_expresses_the_answers_concept(
    concept: str, text: str, right: bool
) -> None:
    assert CONCEPTS.expresses(concept, text) is right


def test_questions_are_posed_at_the_quarters_of_an_annotation() -> None:
    found = pose(CONCEPTS, ACT, np.random.default_rng(0), 2)
    assert [at_s for at_s, _ in found] == [3.0, 4.0, 5.0]
    for _, pool in found:
        captions = [q for q in pool if q.kind == 'caption']
        assert len({q.prompt for q in captions}) == len(captions) == 3
    assert len(found[0][1]) == len(found[2][1]) == 3
    unanswerable = [q for q in found[1][1] if q.meaning == 'unknown']
    assert len(unanswerable) == 4 and all(q.candidates for q in unanswerable)  # two a draw
    nothing = Annotation(2, 6, '', 'none', '', '', '')
    assert pose(CONCEPTS, nothing, np.random.default_rng(0)) == []


def posed(stream: Any, kind: str, meaning: str, phase: str = 'act') -> Posed:
    candidates = () if kind in ('caption', 'open') else ('yes', 'no')
    item = Annotation(2, 6, 'dark', phase, 'drawer-open', 'drawer', 'red')
    return Posed(stream, item, 3.0, LabeledQuestion('?', 'yes', meaning, kind, candidates))


class NamedStream:
    def __init__(self, name: str) -> None:
        self.name = name


def rows_of(rows: list[Row]) -> dict[str, Row]:
    return {row.what: row for row in rows}


def test_question_kinds_and_reasons_of_unanswerable_questions() -> None:
    one = NamedStream('a')
    kinds = [kind_of(posed(one, kind, 'yes')) for kind in ('yes/no', 'colour', 'caption', 'open')]
    assert kinds == ['yes/no', 'choices', 'sentences', 'open answers']
    reasons = [reason_of(posed(one, 'colour', 'unknown', p)) for p in ('dark', 'covered', 'rest')]
    assert reasons == ['dark', 'covered', 'absent']
    assert reason_of(posed(one, 'colour', 'yes', 'dark')) == ''


def test_metrics_of_a_question_kind_and_of_its_answerable_questions() -> None:
    a, b = NamedStream('a'), NamedStream('b')
    answered = [
        Given(posed(a, 'yes/no', 'yes'), 0.9, False, True),
        Given(posed(b, 'yes/no', 'no'), 0.6, False, False),
        Given(posed(b, 'yes/no', 'unknown'), 0.7, True, False),
        Given(posed(b, 'colour', 'no'), 0.1, False, False),
    ]
    rows = rows_of(confidences('ours', 'yes/no', answered))
    assert rows['yes/no: ECE'].mean.value == pytest.approx((0.1 + 0.6 + 0.7) / 3)
    assert (rows['yes/no: ECE'].target, rows['yes/no: ECE'].at_most) == (0.05, True)
    assert rows['yes/no: AUROC'].mean.value == 1.0 and rows['yes/no: AUROC'].target == 0.80
    assert rows['yes/no: accuracy'].mean.value == pytest.approx(1 / 3)
    assert rows['yes/no, answerable: ECE'].mean.value == pytest.approx((0.1 + 0.6) / 2)
    assert rows['yes/no, answerable: ECE'].mean.count == 2
    blind = rows_of(confidences('blind', 'yes/no', answered))
    assert {row.target for row in blind.values()} == {None}
    assert confidences('ours', 'sentences', answered) == []


def test_abstention_rates_by_reason() -> None:
    a, b = NamedStream('a'), NamedStream('b')

    def answered(kind: str, meaning: str, phase: str, abstained: bool) -> Given:
        return Given(posed(a if abstained else b, kind, meaning, phase), 0.5, abstained, False)

    rows = rows_of(
        abstentions(
            'ours',
            [
                answered('colour', 'unknown', 'dark', True),
                answered('colour', 'unknown', 'dark', False),
                answered('yes/no', 'unknown', 'rest', True),
                answered('yes/no', 'yes', 'rest', False),
                answered('yes/no', 'yes', 'dark', False),
                answered('yes/no', 'yes', 'rest', True),
                answered('open', 'unknown', 'rest', False),
                answered('open', 'yes', 'rest', True),
                answered('caption', 'dark', 'dark', True),
            ],
        )
    )
    shares = {what.removeprefix('abstained: '): row.mean.value for what, row in rows.items()}
    assert shares == {
        'dark': 0.5,
        'absent': 1.0,
        'unanswerable': pytest.approx(2 / 3),
        'answerable': pytest.approx(1 / 3),
        'unanswerable, open answers': 0.0,
        'answerable, open answers': 1.0,
    }
    assert rows['abstained: unanswerable'].target == 0.85
    answerable = rows['abstained: answerable']
    assert (answerable.target, answerable.at_most) == (0.05, True)
    assert rows['abstained: answerable, open answers'].target is None


def test_a_note_reports_question_kinds_with_too_few_questions(tmp_path: Path) -> None:
    acts = [toy_suites.annotation('act', 'drawer-open', colour) for colour in ('red', 'blue')]
    for name in ('a', 'b'):
        toy_suites.film(tmp_path, name, [*acts, toy_suites.annotation('dark', light=False)])
    streams = open_split(tmp_path).streams
    found = calibrate(toy_suites.context(streams))
    rows = {(row.who, row.what): row for row in found.rows}
    questions = pose_all(toy_suites.context(streams))
    captions = [p for p in questions if kind_of(p) == 'sentences']
    assert rows['ours', 'sentences: accuracy'].mean.count == len(captions)
    assert rows['ours', 'sentences: accuracy'].mean.value == 1.0
    open_answers = [p for p in questions if kind_of(p) == 'open answers']
    assert len(open_answers) * DRAWS == sum(bool(p.question.candidates) for p in questions)
    assert rows['ours', 'abstained: unanswerable'].mean.value == 0.0  # the toy never abstains
    assert {who for who, _ in rows} == {'ours', 'oracle', 'blind'}
    assert 'sentences: ' in found.notes[0] and '5000' in found.notes[0]
