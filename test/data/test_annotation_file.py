# SPDX-License-Identifier: Apache-2.0
"""Annotation files: their contents, and errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.numbered_recordings import caption_line, question_line, write_lines

from vljepa_ros.cli.annotate import as_json
from vljepa_ros.core.types import AbstainReason, Event, State, StreamKey
from vljepa_ros.data.annotation_file import (
    AnnotationError,
    default_path,
    meaning_of,
    read_annotations,
)


def assert_error(path: Path, *parts: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and '\n' not in text
    assert all(part in text for part in parts), text


def test_lines_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / 'a.jsonl',
        caption_line(2, 3.5, 'B'),
        '',
        question_line(4, candidates=['no', 'yes'], source='front'),
        caption_line(0, 2, 'A'),
        '   ',
        question_line(0.5),
    )
    found = read_annotations(path)
    assert [(s.number, s.start, s.end, s.text) for s in found.texts] == [
        (4, 0.0, 2.0, 'A'),
        (1, 2.0, 3.5, 'B'),
    ]
    assert [(a.number, a.start, a.end, a.source, a.candidates) for a in found.questions] == [
        (6, 0.5, 0.5, '', ()),
        (3, 4.0, 4.0, 'front', ('no', 'yes')),
    ]
    assert (found.questions[0].prompt, found.questions[0].answer) == ('Does it?', 'yes')


def test_byte_order_marks_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / 'a.jsonl'
    texts = (
        '{"start": 0, "end": 1, "text": "one\u2028line"}\r\n{"start": 1, "end": 2, "text": "é"}'
    )
    path.write_bytes(b'\xef\xbb\xbf' + texts.encode())
    assert [(s.number, s.text) for s in read_annotations(path).texts] == [
        (1, 'one\u2028line'),
        (2, 'é'),
    ]


def test_further_keys_of_annotate_are_ignored(tmp_path: Path) -> None:
    key = StreamKey('front', 'What?', 'm')
    event = Event(2, key, 's', 7, 0, 2_000_000_000, State.ENDED, 'A', 0.25, nearest=True)
    line = as_json(event, 0)
    (found,) = read_annotations(write_lines(tmp_path / 'a.jsonl', line)).texts
    assert (found.start, found.end, found.source, found.text) == (0.0, 2.0, 'front', 'A')


@pytest.mark.parametrize(
    ('line', 'parts'),
    [
        (caption_line(-0.5, 1), ['start (-0.5)']),
        (caption_line(2, 2), ['end (2)', 'start (2)']),
        (caption_line(2, 1), ['end (1)', 'start (2)']),
        (caption_line(0, float('nan')), ['end', 'finite']),
        (caption_line(float('inf'), 1), ['start', 'finite']),
        (caption_line(0, 10**400), ['end', 'finite']),
        (caption_line('0', 1), ["start ('0')", 'number']),
        (caption_line(True, 2), ['start (True)', 'number']),
        (caption_line(None, 2), ['start (None)']),
        (caption_line(0, 1, ''), ['text', 'empty']),
        (caption_line(0, 1, ' . '), ['text', 'no words']),
        (caption_line(0, 1, 7), ['text', 'int']),
        (caption_line(0, 1, 'x' * 5000), ['text', '5,000 characters']),
        (caption_line(0, 1, source=''), ['source', 'empty']),
        (caption_line(0, 1, label=3), ["'label'", 'start, end, text, source']),
        ({'start': 0, 'text': 'x'}, ["'end'"]),
        ({'end': 1, 'text': 'x'}, ["'start'"]),
        ({'start': 0, 'end': 1}, ["'text'"]),
        (question_line(-1), ['time (-1)']),
        (question_line(float('nan')), ['time', 'finite']),
        (question_line(0, ''), ['prompt', 'empty']),
        (question_line(0, 'q', ' '), ['answer', 'empty']),
        (question_line(0, confidence=1), ["'confidence'"]),
        (question_line(0, end=3), ["'end'", 'time, prompt, answer, candidates, source']),
        ({'time': 0, 'prompt': 'q'}, ["'answer'"]),
        ({'prompt': 'q', 'answer': 'a'}, ["'time'"]),
        (question_line(0, candidates='yes'), ['candidates', 'list']),
        (question_line(0, candidates=['yes', '']), ['candidate', 'empty']),
        (question_line(0, candidates=['no', 'perhaps']), ["answer 'yes'", 'candidates']),
        ([1], ['JSON', 'object']),
        ('7', ['JSON', 'object']),
        ('{"start": 0,', ['JSON', 'column']),
        ('9' * 5000, []),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: Any, parts: list[str]) -> None:
    path = write_lines(tmp_path / 'a.jsonl', caption_line(10, 11), line)
    assert_error(path, f'{path}:2: ', *parts)


def test_a_file_without_lines_is_named(tmp_path: Path) -> None:
    assert_error(tmp_path / 'gone.jsonl', 'No such file')
    assert_error(write_lines(tmp_path / 'a.jsonl', '', ' '), 'a.jsonl')
    (tmp_path / 'b.jsonl').write_bytes(b'{"start": 0, "end": 1, "text": "\xff"}')
    assert_error(tmp_path / 'b.jsonl', 'UTF-8')
    assert_error(tmp_path, 'Is a directory')


def test_an_overlap_names_both_lines(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / 'a.jsonl', caption_line(4, 6), caption_line(0, 2), caption_line(1.5, 3)
    )
    assert_error(path, f'{path}:3: ', 'line 2')
    assert_error(
        write_lines(path, caption_line(0, 9), caption_line(2, 3), caption_line(3, 4)),
        f'{path}:2: ',
        'line 1',
    )
    assert_error(
        write_lines(path, caption_line(0, 2, source='a'), caption_line(1, 3)),
        f'{path}:2: ',
        'line 1',
    )
    assert_error(
        write_lines(path, caption_line(1, 2, source='a'), caption_line(1, 2, source='a')), 'line 1'
    )


def test_adjacent_texts_and_texts_of_other_cameras_do_not_overlap(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / 'a.jsonl',
        caption_line(0, 0.1 + 0.2),
        caption_line(0.3, 1),
        caption_line(1, 2, source='a'),
        caption_line(1, 2, source='b'),
        question_line(0.5),
        question_line(0.5),
    )
    assert len(read_annotations(path).texts) == 4 and len(read_annotations(path).questions) == 2


def test_a_concept_id_ignores_case_spaces_and_the_final_period() -> None:
    assert meaning_of(' The  Arm\nrests. ') == 'say:the arm rests' == meaning_of('the arm rests')
    assert meaning_of('the arm rests .') == 'say:the arm rests'
    assert meaning_of('the arms rest') != meaning_of('the arm rests')
    assert meaning_of('at 0.5 m. done') == 'say:at 0.5 m. done'


def test_the_default_annotation_file_is_next_to_the_recording(tmp_path: Path) -> None:
    (tmp_path / 'run.1').mkdir()
    assert default_path(tmp_path / 'run.1') == tmp_path / 'run.1.jsonl'
    assert default_path(tmp_path / 'run.1' / '..' / 'run.1') == tmp_path / 'run.1.jsonl'
    assert default_path(tmp_path / 'clip.2.mp4') == tmp_path / 'clip.2.jsonl'


def test_a_segment_with_a_withheld_text_is_left_out(tmp_path: Path) -> None:
    key = StreamKey('front', 'What?', 'm')
    reason = AbstainReason.UNFAMILIAR
    event = Event(2, key, 's', 7, 0, 2 * 10**9, State.ENDED, '', 0.0, abstain_reason=reason)
    withheld, filled = as_json(event, 0), as_json(event, 0) | {'text': 'a door opens'}
    (found,) = read_annotations(write_lines(tmp_path / 'a.jsonl', filled)).texts
    assert found.text == 'a door opens'
    (found,) = read_annotations(
        write_lines(tmp_path / 'b.jsonl', withheld, caption_line(2, 3))
    ).texts
    assert found.start == 2
