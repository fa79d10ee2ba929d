# SPDX-License-Identifier: Apache-2.0
"""`vljepa live` with the fake model, an HTTP camera, and questions on the standard input."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import bags
from helpers.fake_models import fake_model
from helpers.mjpeg_server import MjpegServer, mjpeg_server
from helpers.waiting import eventually

from vljepa_ros.cli import common, live
from vljepa_ros.cli.main import main
from vljepa_ros.model import registry

Run = Callable[..., Any]


@pytest.fixture
def http() -> Iterator[MjpegServer]:
    with mjpeg_server() as server:
        yield server


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """Return the end of a pipe whose lines are typed on the standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, 'w', buffering=1) as typing:
        monkeypatch.setattr(sys, 'stdin', stdin)
        yield typing


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Act in a thread while a command runs; an error of the thread is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not errors, errors


def show(http: MjpegServer, color: str, seconds: float) -> None:
    """Let the camera show a color for some seconds."""
    http.color, sent = color, http.sent
    eventually(lambda: http.sent >= sent + 25 * seconds)


def of_type(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line['type'] == kind]


def test_events_answers_and_gaps_are_printed_as_they_come(
    vljepa: Run, http: MjpegServer, typed: io.TextIOWrapper
) -> None:
    def act() -> None:
        show(http, 'red', 3)
        typed.write('is it red? | yes | no red\n')
        show(http, 'red', 0.5)
        show(http, 'blue', 3)
        typed.write('\nwhat is it?\n')
        show(http, 'blue', 0.5)
        http.mode = 'end'
        eventually(lambda: http.clients >= 3)
        http.mode = 'send'
        show(http, 'blue', 1.5)
        http.mode = 'end'

    before = datetime.now(timezone.utc)
    with meanwhile(act):
        found = vljepa('live', http.url, '--json', '--give-up', 2)
    assert found.status == 75
    assert 'no image came back within 2 s' in found.err.splitlines()[-1]
    lines = found.lines
    events = of_type(lines, 'event')
    colors = [event['text'].split()[-1] for event in events if event['state'] == 'started']
    assert colors[:2] == ['red', 'blue']
    assert events[-1]['state'] == 'ended' and events[-1]['text'].endswith('blue')
    assert list(events[0]) == [
        *('type', 'state', 'source', 'segment', 'start', 'end', 'text', 'confidence', 'time')
    ]
    red_ends = next(e for e in events if e['state'] == 'ended' and e['text'].endswith('red'))
    assert red_ends['end'] >= 2 and red_ends['start'] <= 1
    times = [datetime.fromisoformat(event['time']) for event in events]
    assert before <= times[0] and times == sorted(times) and times[-1] < datetime.now(timezone.utc)
    first, second = of_type(lines, 'answer')
    assert first['prompt'] == 'is it red?'
    assert {item['text'] for item in first['ranked']} == {'yes', 'no red'}
    assert second['answer'] == 'the scene is blue' and second['ranked'] == []
    [gap] = of_type(lines, 'gap')
    assert gap['number'] == 1 and 0 < gap['end'] - gap['start'] < 10
    assert lines.index(first) < lines.index(red_ends) < lines.index(second) < lines.index(gap)
    assert '1 gaps' in found.err


def test_a_recording_is_played_at_its_speed_and_described(
    vljepa: Run, bag: Path, typed: io.TextIOWrapper
) -> None:
    typed.write('what is it?\n')  # before the first hop
    found = vljepa('live', bag)
    assert found.status == 0
    lines = found.out.splitlines()
    states = [(line.split()[2], line.split()[-2]) for line in lines]
    assert states[0] == ('started', 'red') and states[-1] == ('ended', 'green')
    assert [color for state, color in states if state == 'ended'] == ['red', 'blue', 'green']
    assert 'no frame has been encoded yet' in found.err
    assert '80 images, ' in found.err and ' 0 gaps' in found.err


def test_regions_are_sources_of_their_own(
    vljepa: Run, tmp_path: Path, typed: io.TextIOWrapper
) -> None:
    sides = np.zeros((24, 32, 3), np.uint8)
    sides[:, :16], sides[:, 16:] = (255, 0, 0), (0, 0, 255)
    rows = [
        (bags.TOPIC, stamp, bags.compressed(stamp, bags.jpeg(sides))) for stamp in bags.stamps(25)
    ]
    folder = bags.write(tmp_path / 'bag', rows)

    def act() -> None:
        threading.Event().wait(1.5)  # of 2.4 s that the recording takes
        typed.write('right: what is it?\nwhat is it?\n')

    crops = ('--crop', 'left=0,0,0.5,1', '--crop', 'right=0.5,0,0.5,1')
    with meanwhile(act):
        found = vljepa('live', folder, '--json', *crops)
    assert found.status == 0
    started = [e for e in of_type(found.lines, 'event') if e['state'] == 'started']
    assert {(e['source'], e['text'].split()[-1]) for e in started} == {
        ('left', 'red'),
        ('right', 'blue'),
    }
    [answer] = of_type(found.lines, 'answer')
    assert (answer['source'], answer['answer']) == ('right', 'the scene is blue')
    assert 'time' not in answer
    assert "begin the question with a source, as in 'left, right: ...'" in found.err


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (['/dev/video99'], 2, '/dev/video99: no such device'),
        (['rtsp://127.0.0.1:9/x'], 75, 'connection refused'),
        (['ftp://host/x'], 2, "URL type 'ftp' is not supported"),
        (['missing.mp4'], 2, 'missing.mp4: no such file'),
        (['rtsp://127.0.0.1:9/x', '--topic', '/a'], 2, '--topic and --fps apply to recordings'),
        (['{bag}', '--stall', '0'], 2, '--stall'),
        (['{bag}', '--give-up', 'x'], 2, '--give-up'),
        (['{bag}', '--crop', '0,0,1,1', '--crop', '0,0,1,1'], 2, 'two regions have no name'),
        (['{bag}', '--model', 'nope'], 2, "unknown model 'nope'"),
        ([''], 2, 'SOURCE'),
    ],
)
def test_invalid_input_gives_one_line(
    vljepa: Run, bag: Path, arguments: list[str], status: int, message: str
) -> None:
    found = vljepa('live', *(argument.format(bag=bag) for argument in arguments))
    assert (found.status, found.out) == (status, '')
    assert message in found.err and found.err.count('\n') == 1


def test_the_default_model_depends_on_the_source(
    http: MjpegServer, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str, *_: object, **__: object) -> object:
        loaded.append(name)
        http.mode = 'end'
        return fake_model()

    monkeypatch.setattr(registry, 'load', load)
    monkeypatch.setattr(common, 'REAL_CAMERA_MODEL', 'of cameras')
    monkeypatch.setattr(common, 'RECORDING_MODEL', 'of recordings')
    assert main(['live', http.url, '--give-up', '0.1']) == 75
    http.mode = 'send'
    assert main(['live', str(bag)]) == 0
    http.mode = 'send'
    assert main(['live', http.url, '--give-up', '0.1', '--model', 'mine']) == 75
    assert loaded == ['of cameras', 'of recordings', 'mine']


def test_waiting_questions_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    wake = threading.Event()
    questions = live.TypedQuestions(
        wake, io.StringIO('\n'.join(f'question {n}' for n in range(100)))
    )
    eventually(lambda: not any(t.name == 'questions' for t in threading.enumerate()))
    assert questions.take() == [f'question {n}' for n in range(live.MAX_QUESTIONS)]
    assert questions.take() == []
    assert wake.is_set()
    assert capsys.readouterr().err.count('was not accepted') == 100 - live.MAX_QUESTIONS
