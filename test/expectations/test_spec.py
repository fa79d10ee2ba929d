# SPDX-License-Identifier: Apache-2.0
"""Expectations files: values, defaults, and errors that name the line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.expectations import read_expectations
from vljepa_ros.expectations.spec import AnswerIs, Events, Never, Order, Trigger, Within


def read(tmp_path: Path, text: str) -> list[object]:
    path = tmp_path / 'e.yaml'
    path.write_text(text)
    return [item.kind for item in read_expectations(path).items]


@pytest.mark.parametrize(
    ('time', 'seconds'), [('12', 12), ('1.5', 1.5), ("'01:04'", 64), ("'1:00:02.5'", 3602.5),
                          ('01:04', 64)]
)  # fmt: skip
def test_times_are_seconds_or_clock_times(tmp_path: Path, time: str, seconds: float) -> None:
    [kind] = read(tmp_path, f'expectations:\n- within: {{text: a, after: {time}}}\n')
    assert kind == Within('a', float(seconds), 3.0)


def test_a_time_can_be_a_message(tmp_path: Path) -> None:
    row = '- within: {text: a, after: {message: /skill/goal, number: 2}, seconds: 1}'
    path = tmp_path / 'e.yaml'
    path.write_text(f'expectations:\n{row}\n')
    expected = read_expectations(path)
    assert expected.items[0].kind == Within('a', Trigger('/skill/goal', 2), 1.0)
    assert expected.topics == ('/skill/goal',)


def test_short_forms_and_yes_and_no(tmp_path: Path) -> None:
    assert read(
        tmp_path,
        'expectations:\n'
        '- never: it burns\n'
        '- order: [a, b]\n'
        '- events: {at_most: 3}\n'
        "- answer: {question: 'Is it?', candidates: [yes, no], answer: no, at: 2}\n",
    ) == [
        Never('it burns'),
        Order(('a', 'b')),
        Events(3.0),
        AnswerIs('Is it?', 'no', ('yes', 'no'), at=2.0),
    ]


def test_names_and_lines(tmp_path: Path) -> None:
    path = tmp_path / 'e.yaml'
    path.write_text(
        '# a comment\nexpectations:\n\n- name: x\n  never: a\n- never: b\n  camera: c\n'
    )
    first, second = read_expectations(path).items
    assert (first.name, first.line, first.at_least) == ('x', 4, 0.5)
    assert 'b' in second.name and (second.line, second.camera) == (6, 'c')


@pytest.mark.parametrize(
    ('row', 'token'),
    [
        ('- never: {text: a, form: 3}', 'form'),
        ('- {}', 'exactly one'),
        ('- {never: a, order: [a, b]}', 'exactly one'),
        ('- {never: a, camra: front}', 'camra'),
        ('- 7', 'not a mapping'),
        ('- within: {text: a}', "'after'"),
        ('- within: {text: a, after: -1}', 'negative'),
        ('- within: {text: a, after: .nan}', 'finite'),
        ("- within: {text: a, after: '5 s'}", 'after'),
        ('- within: {text: a, after: 1000000000}', 'more than'),
        ('- within: {text: a, after: {topic: /x}}', 'message'),
        ('- within: {text: a, after: {message: /x, number: 0}}', 'number'),
        ("- never: ''", 'empty'),
        ('- never: {text: a, start: 5, end: 3}', 'before'),
        ('- order: [a]', 'two'),
        ('- events: {}', 'at_most'),
        ('- events: {at_most: 1, at_least: 2}', 'below'),
        ('- answer: {question: q, answer: yes}', "'at'"),
        ('- answer: {question: q, answer: yes, at: 1, end: 2}', "'at'"),
        ('- answer: {question: q, answer: maybe, at: 1}', 'candidates'),
        ("- answer: {question: '', answer: yes, at: 1}", 'prompt is empty'),
        ('- {never: a, at_least: 0}', 'at_least'),
        ('- {never: a, at_least: yes}', 'at_least'),
        ('- {never: a, recorded: 3}', 'recorded'),
    ],
)
def test_an_invalid_expectation_is_one_line_with_its_line_number(
    tmp_path: Path, row: str, token: str
) -> None:
    path = tmp_path / 'e.yaml'
    path.write_text(f'expectations:\n- never: good\n{row}\n')
    with pytest.raises(InputError, match=token) as caught:
        read_expectations(path)
    message = str(caught.value)
    assert 'e.yaml, line 3:' in message and '\n' not in message


@pytest.mark.parametrize(
    'text', ['', '[]', 'expectations: []', 'expectations: {a: 1}', 'expectation:\n- never: a\n',
             'expectations:\n- never: [unclosed\n', 'sauce: x\nexpectations:\n- never: a\n']
)  # fmt: skip
def test_an_invalid_file_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r'e\.yaml') as caught:
        read(tmp_path, text)
    assert '\n' not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='absent'):
        read_expectations(tmp_path / 'absent.yaml')


def test_the_default_of_at_most_is_no_limit() -> None:
    assert Events(at_least=1).at_most == math.inf
