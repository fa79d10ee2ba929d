# SPDX-License-Identifier: Apache-2.0
"""Suite caption: weights of the groups, limits of retrieval, and the corpus of CIDEr-D."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.data.simulators.mwstream.tasks import held_out_color, training_colors
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.document_frequencies import scorer
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.suites.caption import caption, group, is_new

TRAINED_COLOR, NEW_COLOR = training_colors('dial-turn')[0], held_out_color('dial-turn')
Rows = dict[tuple[str, str], Row]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rows]:
    """Return the suite's rows; the corpus of CIDEr-D is the given streams."""
    suite = importlib.import_module('vljepa_ros.evaluate.suites.caption')
    monkeypatch.setattr(suite, 'scorer', lambda streams: scorer(streams, tmp_path / 'none.json'))

    def measure(*streams: list[Annotation], mistake: Callable[[str], str] = str) -> Rows:
        films: list[Stream] = [film(tmp_path, f's{i}', s) for i, s in enumerate(streams)]
        report = caption(context(films, ToyVision(mistake)))
        return {(row.who, row.what): row for row in report.rows}

    return measure


def test_combinations_held_out_of_training_are_new() -> None:
    assert is_new(CONCEPTS, annotation('act', 'dial-turn', NEW_COLOR))
    assert is_new(CONCEPTS, annotation('done', 'dial-turn', NEW_COLOR))
    assert not is_new(
        CONCEPTS, annotation('reach', 'dial-turn', NEW_COLOR)
    )  # other dials have that colour
    assert not is_new(CONCEPTS, annotation('act', 'dial-turn', TRAINED_COLOR))


def test_annotations_unrelated_to_the_task_are_one_group() -> None:
    for phase in ('dark', 'covered'):
        assert group(annotation(phase, 'push')) == group(annotation(phase, 'soccer'))
    gone = [annotation('gone', t, meaning='gone:tin:red') for t in ('push', 'soccer')]
    assert group(gone[0]) == group(gone[1]) != group(annotation('dark'))
    assert group(annotation('rest', 'push')) != group(annotation('rest', 'soccer'))
    assert group(annotation('act', 'push')) != group(annotation('done', 'push'))


def test_perfect_vision_scores_like_the_oracle(run: Callable[..., Rows]) -> None:
    rows = run(
        [annotation('act', 'dial-turn', TRAINED_COLOR), annotation('dark')], [annotation('reach')]
    )
    assert rows['ours', 'correct sentences'].mean.value == 1.0
    assert rows['ours', 'correct sentences'].target == 0.80
    assert rows['ours', "CIDEr-D, share of the oracle's"].mean.value == pytest.approx(1.0)
    assert rows['oracle', 'correct sentences'].mean.value == 1.0
    assert rows['blind', 'correct sentences'].mean.value < 1.0
    equal = rows['ours - nearest sentence', 'correct sentences']
    assert equal.mean.value == 0.0 and equal.reached is True
    assert rows['ours', 'correct sentences: act'].mean.count == 1


def test_groups_have_equal_weight(run: Callable[..., Rows]) -> None:
    """All dark annotations are one group and each task's acts are one group: 2 of 3 are right."""
    dark = [annotation('dark', task) for task in ('push', 'soccer', 'hammer', 'sweep')]
    rows = run(
        [*dark, annotation('act', 'push')],
        [annotation('act', 'soccer')],
        mistake=lambda m: 'rest' if m == 'dark' else m,
    )
    assert rows['ours', 'correct sentences'].mean.value == pytest.approx(2 / 3)
    assert rows['ours', 'correct sentences'].mean.count == 6
    assert rows['ours', 'correct sentences: dark'].mean.value == 0.0


def test_sentence_retrieval_fails_on_new_combinations(run: Callable[..., Rows]) -> None:
    rows = run(
        [annotation('act', 'dial-turn', NEW_COLOR)],
        [annotation('act', 'dial-turn', TRAINED_COLOR)],
    )
    what = 'correct sentences, new combinations'
    assert rows['ours', what].mean.value == 1.0 and rows['ours', what].mean.count == 1
    assert rows['nearest sentence', what].mean.value == 0.0
    better = rows['ours - nearest sentence', what]
    assert better.mean.value == 1.0 and better.reached is True
    assert rows['ours - nearest sentence', 'correct sentences'].mean.value == pytest.approx(0.5)


def test_target_on_new_combinations_is_to_exceed_sentence_retrieval(
    run: Callable[..., Rows],
) -> None:
    rows = run([annotation('act', 'dial-turn', NEW_COLOR)], mistake=lambda m: 'rest')
    assert rows['ours - nearest sentence', 'correct sentences, new combinations'].reached is False
    assert rows['ours - nearest sentence', 'correct sentences'].reached is True


def test_cider_references_are_the_first_five_paraphrases(run: Callable[..., Rows]) -> None:
    items = [annotation('act', 'dial-turn', TRAINED_COLOR), annotation('act', 'soccer')]
    rows = run(items, mistake=lambda m: m.replace('soccer', 'push'))
    five = {m: sentences(m)[:5] for m in (items[0].meaning, 'act:soccer:red', 'rest')}
    predicted = {items[0].meaning: items[0].meaning, 'act:soccer:red': 'act:push:red'}
    cider = Cider([five['rest'], five[items[0].meaning], five['act:soccer:red']])
    expected = [cider.score(sentences(predicted[m])[0], five[m]) for m in predicted]
    found = rows['ours', 'CIDEr-D'].mean.value
    best = rows['oracle', 'CIDEr-D'].mean.value
    assert found == pytest.approx(sum(expected) / 2)
    share = rows['ours', "CIDEr-D, share of the oracle's"].mean.value
    assert share == pytest.approx(found / best)


def test_streams_without_moments_give_no_rows(tmp_path: Path) -> None:
    assert caption(context([film(tmp_path, 'a', [])])).rows == ()
