# SPDX-License-Identifier: Apache-2.0
"""Outcomes of single items, and the paired comparison of two results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from helpers.toy_suites import ToyVision, annotation, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import InputError
from vljepa_ros.evaluate.matching import f1
from vljepa_ros.evaluate.outcomes import Outcomes, f1_outcomes, unique
from vljepa_ros.evaluate.paired_comparison import compare
from vljepa_ros.evaluate.statistics import mean


def write_result(path: Path, outcomes: Outcomes, **more: Any) -> Path:
    row = {'who': 'ours', 'what': 'top-1', 'outcomes': outcomes.as_json()}
    suites = [{'suite': 'classify', 'rows': [row, row | {'who': 'oracle'}, {'who': 'none'}]}]
    path.write_text(json.dumps({'split': 'test', 'views': 'home', 'suites': suites} | more))
    return path


def outcomes_of(right: Any, first: int = 0) -> Outcomes:
    """Return ten items per stream."""
    ids = [f'test-{i // 10}@{i}' for i in range(first, first + len(right))]
    return Outcomes(
        tuple(ids),
        tuple(float(x) for x in right),
        clusters=tuple(name.partition('@')[0] for name in ids),
    )


def test_differences_are_paired(tmp_path: Path) -> None:
    """Half of 200 items are right; B has the same items right, and four more."""
    rng = np.random.default_rng(0)
    right = rng.permutation(np.repeat([0.0, 1.0], 100))
    better = right.copy()
    better[np.flatnonzero(right == 0)[::30]] = 1.0
    (report,) = compare(
        write_result(tmp_path / 'a.json', outcomes_of(right)),
        write_result(tmp_path / 'b.json', outcomes_of(better)),
    )
    rows = {row.who: row.mean for row in report.rows}
    assert rows['A'].value == 0.5 and rows['B'].value == 0.52
    found, expected = rows['B - A'], mean(better - right, clusters=outcomes_of(right).clusters)
    assert found.value == pytest.approx(0.02) and found.count == 200
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.low >= 0.0
    assert found.high < 0.06  # two intervals side by side would be 0.14 wide each
    assert len(report.rows) == 3  # the oracle is not compared
    assert report.notes == () and {row.what for row in report.rows} == {'top-1'}


def test_only_shared_items_are_compared_in_any_order(tmp_path: Path) -> None:
    one = outcomes_of([1.0] * 60)
    other = outcomes_of([1.0, 0.0] * 30, first=20)
    shuffled = other.select(other.ids[::-1])
    (report,) = compare(write_result(tmp_path / 'a', one), write_result(tmp_path / 'b', shuffled))
    rows = {row.who: row.mean for row in report.rows}
    assert rows['B - A'].count == 40 and rows['B - A'].value == -0.5 and rows['A'].value == 1.0
    assert report.notes == ("40 items of 'top-1' are not compared: only one file has them.",)


def test_results_of_earlier_versions_have_current_metric_names(tmp_path: Path) -> None:
    files = [tmp_path / 'a.json', tmp_path / 'b.json']
    for path, name in zip(files, ('held-out wording', 'held-out paraphrases'), strict=True):
        text = write_result(path, outcomes_of([1.0, 0.0])).read_text()
        path.write_text(text.replace('"top-1"', f'"top-1, {name}"'))
    (report,) = compare(*files)
    assert {row.what for row in report.rows} == {'top-1, held-out paraphrases'}


def test_f1_is_compared_stream_by_stream(tmp_path: Path) -> None:
    names = [f's{i}' for i in range(8)]
    counts = np.array([[5.0, 10.0, 8.0], [7.0, 7.0, 9.0]] * 4)
    outcomes = f1_outcomes(counts, names)
    assert outcomes.mean().value == pytest.approx(f1(counts, names).value)
    less = counts - [1.0, 0.0, 0.0]
    (report,) = compare(
        write_result(tmp_path / 'a', outcomes),
        write_result(tmp_path / 'b', f1_outcomes(less, names)),
    )
    found = report.rows[-1].mean
    assert found.value == pytest.approx(2 * (40 - 48) / (68 + 68))
    assert found.low < found.value < found.high < 0


def test_outcomes_round_trip_through_json() -> None:
    one = Outcomes(('a', 'b'), (1.0, 0.0), ('g', 'g'), ('s', 's'))
    assert Outcomes.from_json(json.loads(json.dumps(one.as_json()))) == one
    two = Outcomes(('a',), (4.0,), weights=(5.0,))
    assert Outcomes.from_json(two.as_json()) == two and 'groups' not in two.as_json()


def test_inconsistent_outcomes_are_rejected() -> None:
    with pytest.raises(ValueError, match='2 ids'):
        Outcomes(('a', 'b'), (1.0,))
    with pytest.raises(ValueError, match="'a'"):
        Outcomes(('a', 'a'), (1.0, 0.0))
    assert unique(['a', 'b', 'a', 'a']) == ('a', 'b', 'a#2', 'a#3')


def test_results_that_cannot_be_compared_are_an_error(tmp_path: Path) -> None:
    good = write_result(tmp_path / 'good', outcomes_of([1.0] * 10))
    wide = write_result(tmp_path / 'wide', outcomes_of([1.0] * 10), views='wide')
    with pytest.raises(InputError, match=r"views 'home'.*'wide'.*same items"):
        compare(good, wide)
    with pytest.raises(InputError, match='no items in common'):
        compare(good, write_result(tmp_path / 'other', outcomes_of([1.0] * 10, first=50)))
    (tmp_path / 'text').write_text('no')
    (tmp_path / 'list').write_text('[]')
    broken = {'suites': [{'suite': 'x', 'rows': [{'who': 'ours', 'what': 'y', 'outcomes': {}}]}]}
    (tmp_path / 'broken').write_text(json.dumps({'split': 'test', 'views': 'home'} | broken))
    for name, message in (
        ('text', 'not a JSON file'),
        ('list', 'not a result'),
        ('broken', 'not a result'),
        ('absent', 'No such file'),
    ):
        with pytest.raises(InputError, match=message):
            compare(good, tmp_path / name)


def test_the_command_compares_two_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ('drawer-open', 'soccer', 'push')
    acts = [annotation(p, t, episode=i) for i, t in enumerate(tasks) for p in ('act', 'done')]
    for i in range(2):
        film(tmp_path / 'test', f'test-2000{i}', acts)

    def mistake(meaning: str) -> str:
        return meaning.replace(':soccer:', ':push:')

    data_arguments, files = (
        ['--data', str(tmp_path), '--jobs', '1'],
        [str(tmp_path / name) for name in ('a', 'b')],
    )
    for suite in ('classify', 'vqa', 'caption', 'retrieve', 'events'):
        for out, vision in zip(files, (ToyVision(), ToyVision(mistake)), strict=True):
            model = toy_suites.model(vision)
            monkeypatch.setattr(evaluate.common, 'load_model', lambda args, model=model: model)
            assert main(['evaluate', suite, *data_arguments, '--out', out]) == 0
        assert 'outcomes' not in capsys.readouterr().out
        assert main(['evaluate', 'compare', *files, '--json']) == 0
        found = json.loads(capsys.readouterr().out)
        assert [part['suite'] for part in found['suites']] == [suite]
        gaps = {r['what']: r['value'] for r in found['suites'][0]['rows'] if r['who'] == 'B - A'}
        assert gaps and max(gaps.values()) <= 0 and min(gaps.values()) < 0, suite
        if suite == 'classify':
            assert gaps['top-1, held-out paraphrases'] == pytest.approx(-1 / 3, abs=1e-6)
    assert main(['evaluate', 'compare', *files]) == 0
    table = capsys.readouterr().out
    assert table.startswith('### events') and '| B - A | F1: labeled | -0.' in table


def test_the_command_requires_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'compare', 'a.json']) == 2
    assert 'two result files' in capsys.readouterr().err
    assert main(['evaluate', 'classify', 'a.json']) == 2
    assert 'a.json' in capsys.readouterr().err
