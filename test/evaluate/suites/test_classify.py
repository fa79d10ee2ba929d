# SPDX-License-Identifier: Apache-2.0
"""Suites classify, classify-unseen and gap with a vision side that makes known errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from helpers.printed import numbers
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.evaluate.act_classification import choose
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.suites.classify import NOT_THERE, classify, classify_unseen
from vljepa_ros.evaluate.suites.gap import gap


def row(report: Report, who: str, what: str) -> Row:
    return next(r for r in report.rows if (r.who, r.what) == (who, what))


def mistake_plates(meaning: str) -> str:
    return meaning.replace('act:plate-slide:', 'act:plate-slide-side:')


def test_at_most_twenty_acts_per_task_are_chosen_over_all_cameras(tmp_path: Path) -> None:
    acts = [annotation('act', episode=i) for i in range(15)]
    streams = [
        film(tmp_path, 'a', acts, 'corner'),
        film(tmp_path, 'b', acts, 'corner'),
        film(tmp_path, 'c', acts[:3], 'topview'),
        film(tmp_path, 'd', [annotation('act', 'soccer')], 'topview'),
    ]
    chosen = choose(streams, ('push', 'soccer'))
    pushes = [m for m in chosen if m.item.task == 'push']
    assert len(pushes) == 20 and len(chosen) == 21
    assert Counter(m.stream.name for m in pushes) == {'a': 9, 'b': 8, 'c': 3}
    assert chosen == choose(streams, ('push', 'soccer'))


def test_tasks_have_equal_weight(tmp_path: Path) -> None:
    acts = [annotation('act', 'soccer', episode=i) for i in range(3)]
    streams = [
        film(tmp_path, 'a', [*acts, annotation('act', 'plate-slide')]),
        film(tmp_path, 'b', acts),
    ]
    report = classify(context(streams, ToyVision(mistake_plates)))
    ours = row(report, 'ours', 'top-1, training paraphrases')
    assert ours.mean.value == pytest.approx(0.5) and ours.mean.count == 7
    assert ours.target == 0.92
    oracle = row(report, 'oracle', 'top-1, held-out paraphrases')
    assert oracle.mean.value == 1.0 and oracle.target == 0.85
    assert row(report, 'ours', 'top-1, held-out paraphrases').target == pytest.approx(0.92)
    assert row(report, 'blind', 'top-1, training paraphrases').mean.value in (0.0, 0.5)
    assert numbers(report.notes[0])[:3] == [7, 2, 45]  # acts, their tasks, all tasks


def test_candidates_have_the_objects_color(tmp_path: Path) -> None:
    stream = film(tmp_path, 'a', [annotation('act', 'soccer', 'blue')])
    seen = classify(context([stream]))
    assert row(seen, 'ours', 'top-1, training paraphrases').mean.value == 1.0
    wrong = classify(context([stream], ToyVision(lambda m: m.replace('soccer', 'push'))))
    assert row(wrong, 'ours', 'top-1, training paraphrases').mean.value == 0.0


def test_missing_unseen_tasks_give_a_note_and_no_rows(tmp_path: Path) -> None:
    report = classify_unseen(context([film(tmp_path, 'a', [annotation('act')])]))
    assert report.rows == () and report.notes == (NOT_THERE,)
    assert 'unseen' in NOT_THERE and '--split test' in NOT_THERE


def test_unseen_tasks_come_from_their_split_and_seen_tasks_from_the_main_split(
    tmp_path: Path,
) -> None:
    main = [film(tmp_path, 'a', [annotation('act'), annotation('act', 'soccer')])]
    unseen = [
        film(tmp_path, 'b', [annotation('act', 'door-lock'), annotation('act', 'door-unlock')]),
        film(tmp_path, 'c', [annotation('act', 'box-close'), annotation('act', 'bin-picking')]),
    ]

    def mistake(meaning: str) -> str:  # 3 of 4 unseen and 1 of 2 seen tasks are right
        return {'act:door-lock:red': 'act:push:red', 'act:soccer:red': 'act:push:red'}.get(
            meaning, meaning
        )

    report = classify_unseen(context(main, ToyVision(mistake), unseen))
    assert row(report, 'ours', 'unseen tasks among all 50').mean.value == pytest.approx(0.75)
    assert row(report, 'ours', 'seen tasks among all 50').mean.value == pytest.approx(0.5)
    both = row(report, 'ours', 'harmonic mean of both').mean
    assert both.value == pytest.approx(2 * 0.75 * 0.5 / 1.25) and both.count == 6
    assert row(report, 'oracle', 'unseen tasks among all 50').mean.value == 1.0
    five = row(report, 'ours', 'unseen tasks among the 5').mean
    assert five.value >= 0.75 and five.count == 4
    assert {r.who for r in report.rows if r.what == 'unseen tasks among the 5'} == {
        'ours',
        'oracle',
        'blind',
    }


def test_acts_are_encoded_once_for_all_suites(tmp_path: Path) -> None:
    vision = ToyVision()
    shared = context(
        [film(tmp_path, 'a', [annotation('act', episode=i) for i in range(6)])], vision
    )
    classify(shared)
    encoded_count = vision.looks
    gap(shared)
    assert encoded_count == 6 + 1 and vision.looks == encoded_count + 1  # vision-blind: each time


def test_the_modality_gap_of_perfect_vision_is_zero(tmp_path: Path) -> None:
    acts = [annotation('act', task, 'blue') for task in ('push', 'soccer', 'hammer')] * 3
    acts = [type(a)(**{**a.__dict__, 'episode': i}) for i, a in enumerate(acts)]
    streams = [film(tmp_path, 'a', acts[:4]), film(tmp_path, 'b', acts[4:])]
    report = gap(context(streams))
    assert row(report, 'ours', 'cosine to the target').mean.value == pytest.approx(1.0)
    assert row(report, 'ours', 'distance of the centers').mean.value == pytest.approx(0, abs=1e-6)
    assert row(report, 'blind', 'cosine to the target').mean.value < 0.7
    assert gap(context([film(tmp_path, 'c', acts[:4])])).rows == ()
