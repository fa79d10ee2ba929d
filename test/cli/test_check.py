# SPDX-License-Identifier: Apache-2.0
"""`vljepa check` on a bag of 3 s of red, 3 s of blue and 2 s of green, with the fake model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import pytest
from helpers import bags
from helpers.fake_models import UNREADABLE

from vljepa_ros.core.exit_status import ExitStatus

Run = Callable[..., Any]


@pytest.fixture
def expectations(tmp_path: Path) -> Callable[[str], Path]:
    def write(rows: str) -> Path:
        path = tmp_path / 'expectations.yaml'
        path.write_text(f'expectations:\n{rows}')
        return path

    return write


ALL_HOLD = """\
- within: {text: it is blue, after: 2.5}
- never: {text: it is green, end: 5.5}
- throughout: {text: it is red, start: 0.2, end: 2.5}
- order: [it is red, it is blue, it is green]
- events: {at_most: 3, at_least: 3}
- answer: {question: which, candidates: [it is red, it is blue], answer: it is blue, at: 4}
- answer:
    question: which
    candidates: [it is red, it is green]
    answer: it is green
    start: 6.2
    end: 7.5
"""


def test_all_kinds_hold(vljepa: Run, bag: Path, expectations: Callable[[str], Path]) -> None:
    found = vljepa('check', bag, expectations(ALL_HOLD), '--json')
    assert [row['verdict'] for row in found.json] == ['holds'] * 7
    assert found.status == 0
    shown = vljepa('check', bag, expectations(ALL_HOLD))
    assert len(shown.out.splitlines()) == 8 and '7 hold' in shown.out.splitlines()[-1]


def test_a_broken_expectation_has_evidence(
    vljepa: Run, bag: Path, tmp_path: Path, expectations: Callable[[str], Path]
) -> None:
    path = expectations('- never: it is blue\n- within: {text: it is red, after: 1}\n')
    junit, evidence = tmp_path / 'report.xml', tmp_path / 'evidence'
    found = vljepa('check', bag, path, '--json', '--junit', junit, '--evidence', evidence)
    assert found.status == ExitStatus.FAILED
    broken, holds = found.json
    assert (broken['verdict'], holds['verdict']) == ('broken', 'holds')
    assert 3.0 <= broken['start'] < broken['end'] <= 6.1 and broken['line'] == 2
    picture = cv2.imread(broken['picture'])
    assert picture is not None and max(picture.shape) == 320
    blue, _, red = picture.mean((0, 1))
    assert blue > 2 * red
    assert ElementTree.parse(junit).getroot().get('failures') == '1'


def test_what_cannot_be_told_has_its_own_status(
    vljepa: Run, bag: Path, expectations: Callable[[str], Path]
) -> None:
    path = expectations('- answer: {question: q, candidates: [], answer: x, at: 60}\n')
    found = vljepa('check', bag, path)
    assert found.status == ExitStatus.UNDECIDED and 'cannot tell' in found.out


def test_the_time_of_a_message(
    vljepa: Run, tmp_path: Path, expectations: Callable[[str], Path]
) -> None:
    """The message is recorded at 3 s, when the scene becomes blue."""
    rows = bags.colors(['red'] * 3 + ['blue'] * 3, 10)
    goal = ('/skill/goal', bags.START_NS + 3 * 10**9, bags.odd(1.0))
    bag = bags.write(tmp_path / 'bag', sorted([*rows, goal], key=lambda row: row[1]))
    after = '{message: /skill/goal}'
    path = expectations(f'- within: {{text: it is blue, after: {after}, seconds: 1}}\n')
    assert vljepa('check', bag, path).status == 0
    path = expectations('- within: {text: it is blue, after: {message: /skill/gaol}}\n')
    found = vljepa('check', bag, path)
    assert found.status == ExitStatus.BAD_INPUT and '/skill/goal' in found.err
    path = expectations('- within: {text: it is blue, after: {message: /skill/goal, number: 2}}\n')
    found = vljepa('check', bag, path)
    assert found.status == ExitStatus.BAD_INPUT and 'line 2' in found.err


@pytest.mark.parametrize(
    ('row', 'token'),
    [
        ('- {never: it is red, camera: rear}', 'rear'),
        ('- within: {text: it is red, after: 60}', '60 s'),
        (f'- never: {UNREADABLE} text', 'cannot read'),
        ('- never: {text: it is red, color: red}', 'color'),
    ],
)
def test_bad_input_is_one_line_with_the_line_number(
    vljepa: Run, bag: Path, row: str, token: str, expectations: Callable[[str], Path]
) -> None:
    found = vljepa('check', bag, expectations(f'- never: it burns\n{row}\n'))
    assert found.status == ExitStatus.BAD_INPUT and found.out == ''
    assert token in found.err and 'line 3' in found.err and len(found.err.splitlines()) == 1


def test_several_cameras_need_a_name(
    vljepa: Run, tmp_path: Path, expectations: Callable[[str], Path]
) -> None:
    rows = [
        *bags.colors(['red'] * 3, 10, '/front/image_raw/compressed'),
        *bags.colors(['blue'] * 3, 10, '/rear/image_raw/compressed'),
    ]
    bag = bags.write(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    found = vljepa('check', bag, expectations('- never: it is green\n'))
    assert found.status == ExitStatus.BAD_INPUT and 'front, rear' in found.err
    path = expectations(
        '- {never: it is blue, camera: front}\n'
        '- {throughout: {text: it is blue, start: 0.2}, camera: rear}\n'
    )
    assert vljepa('check', bag, path).status == 0


def test_update_records_the_present_and_keeps_what_a_person_wrote(
    vljepa: Run, bag: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'new.yaml'
    assert vljepa('check', bag, path, '--update').status == 0
    assert vljepa('check', bag, path, '--json').json[0]['verdict'] == 'holds'
    recorded = path.read_text()
    assert recorded.count('recorded: true') == 3
    path.write_text('# mine\nexpectations:\n- never: it burns  # kept\n')
    assert vljepa('check', bag, path, '--update').status == 0
    first = path.read_text()
    assert (
        first.startswith('# mine\n') and '# kept' in first and recorded.split('\n', 1)[1] in first
    )
    assert vljepa('check', bag, path, '--update').status == 0
    assert path.read_text() == first  # repeated updates change nothing
    assert vljepa('check', bag, path).status == 0


def test_a_missing_file_is_one_line(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    found = vljepa('check', bag, tmp_path / 'absent.yaml')
    assert found.status == ExitStatus.BAD_INPUT and len(found.err.splitlines()) == 1


def test_the_same_recording_has_the_same_results(
    vljepa: Run, bag: Path, expectations: Callable[[str], Path]
) -> None:
    path = expectations(ALL_HOLD)
    assert len({vljepa('check', bag, path, '--json').out for _ in range(5)}) == 1


CONFTEST = """
import pytest
from helpers.fake_models import fake_model
from vljepa_ros.model import registry

patch = pytest.MonkeyPatch()

def pytest_configure():
    patch.setattr(registry, 'load', lambda *_, **__: fake_model())

def pytest_unconfigure():
    patch.undo()
"""


def test_the_pytest_plugin_runs_each_expectation(pytester: pytest.Pytester, bag: Path) -> None:
    pytester.makeconftest(CONFTEST)
    (pytester.path / 'bag.expectations.yaml').write_text(
        f'source: {bag}\nexpectations:\n'
        '- within: {text: it is blue, after: 2.5}\n'
        '- never: it is blue\n'
        '- answer: {question: q, candidates: [], answer: x, at: 60}\n'
    )
    result = pytester.runpytest_inprocess(
        '-p', 'vljepa_ros.expectations.pytest_plugin', '-p', 'no:cacheprovider', '-rs'
    )
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(['*never: it is blue*'])


def test_the_pytest_plugin_reports_an_invalid_file(pytester: pytest.Pytester) -> None:
    (pytester.path / 'bag.expectations.yaml').write_text('expectations:\n- never: a\n')
    result = pytester.runpytest_inprocess(
        '-p', 'vljepa_ros.expectations.pytest_plugin', '-p', 'no:cacheprovider'
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'source'*"])
