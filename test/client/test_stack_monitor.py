# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

monitor = pytest.importorskip('vljepa_ros.client.stack_monitor', reason='needs ROS')


def test_a_line_is_finished_by_enter() -> None:
    prompt = monitor.PromptLine()
    assert prompt.feed(b'Is it ') == []
    assert prompt.typed == 'Is it '
    assert prompt.feed(b'open?\r') == ['Is it open?']
    assert prompt.typed == ''


def test_letters_that_arrive_in_parts_are_joined() -> None:
    prompt, letter = monitor.PromptLine(), 'é'.encode()
    prompt.feed(letter[:1])
    prompt.feed(letter[1:])
    assert prompt.typed == 'é'


def test_backspace_and_control_u_edit_the_line() -> None:
    prompt = monitor.PromptLine()
    prompt.feed(b'abc\x7f')
    assert prompt.typed == 'ab'
    prompt.feed(b'\x15d')
    assert prompt.typed == 'd'


def test_escape_sequences_and_empty_lines_are_ignored() -> None:
    prompt = monitor.PromptLine()
    assert prompt.feed(b'\x1b[A') == [] and prompt.typed == ''
    assert prompt.feed(b'\n  \n') == []
