# SPDX-License-Identifier: Apache-2.0
"""Nodes in separate processes: if one is missing, hung or dead, the others continue."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.node_harness import (
    LATCHED,
    MS,
    START_NS,
    Bench,
    eventually,
    image_message,
    publish_until_processed,
)
from helpers.ros_processes import Process, RosProcesses
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vljepa_ros.msg import TextEvent
from vljepa_ros.srv import Query

from vljepa_ros.core.exit_status import ExitStatus

TIMEOUT_S = 1.5
BUSY_S = 10.0  # additional time on a busy machine


@pytest.fixture(scope='module')
def bench(ros: int) -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture(scope='module')
def values(tiny_folder: Path) -> dict[str, Any]:
    return {
        'model': str(tiny_folder),
        'device': 'cpu',
        'threads': 1,
        'predict_timeout': TIMEOUT_S,
        'camera.topic': '/cell/image',
    }


class Cell:
    """The four nodes as separate processes."""

    def __init__(self, bench: Bench, processes: RosProcesses, values: dict[str, Any]) -> None:
        self.bench, self._processes, self._values = bench, processes, values
        self.nodes: dict[str, Process] = {}

    def begin(self, *names: str) -> None:
        for name in names:
            self.nodes[name] = self._processes.start(name, '/cell', self._values)

    def up(self, *names: str) -> None:
        self.begin(*names)
        for name in names:
            self.nodes[name].wait_for_line(f'[cell.{name}]: active')

    def ask(self) -> tuple[Query.Response, float]:
        began_s = time.monotonic()
        response = self.bench.call(Query, '/cell/query', Query.Request(prompt='What?'))
        return response, time.monotonic() - began_s

    def feed(self, first: int, count: int) -> None:
        publisher = self.bench.publisher(Image, '/cell/image')
        processed = self.bench.collect(Header, '/cell/frame_processed')
        for n in range(first, first + count):
            message = image_message('red', START_NS + n * 100 * MS)
            publish_until_processed(publisher, processed, message)
        self.bench.probe.destroy_publisher(publisher)


@pytest.fixture(scope='module')
def cell(bench: Bench, processes: RosProcesses, values: dict[str, Any]) -> Cell:
    made = Cell(bench, processes, values)
    made.up('query_node', 'change_detection_node', 'decoder_node')
    return made


def test_missing_predict_service_is_reported_within_the_timeout(cell: Cell) -> None:
    response, seconds = cell.ask()
    assert not response.success
    assert response.error_code == Query.Response.UNAVAILABLE
    assert '/cell/predict' in response.message and f'{TIMEOUT_S} s' in response.message
    assert seconds < TIMEOUT_S + BUSY_S


def test_the_stack_works_after_perception_starts(cell: Cell) -> None:
    cell.up('perception_node')
    events = cell.bench.collect(TextEvent, '/cell/text_event', LATCHED)
    cell.feed(0, 8)
    assert events.wait(1)[0].state == TextEvent.STATE_STARTED
    response, _ = cell.ask()
    assert response.success


def test_hung_predict_service_is_reported_within_the_timeout(cell: Cell) -> None:
    cell.nodes['perception_node'].pause()
    response, seconds = cell.ask()
    assert not response.success
    assert response.error_code == Query.Response.UNAVAILABLE
    assert '/cell/predict' in response.message and f'{TIMEOUT_S} s' in response.message
    assert TIMEOUT_S <= seconds < TIMEOUT_S + BUSY_S
    cell.nodes['perception_node'].resume()
    assert eventually(lambda: cell.ask()[0].success, 20.0)


def test_killed_predict_service_is_reported_and_its_replacement_is_used(cell: Cell) -> None:
    cell.nodes['perception_node'].kill()
    response, seconds = cell.ask()
    assert not response.success
    assert response.error_code == Query.Response.UNAVAILABLE
    assert '/cell/predict' in response.message and f'{TIMEOUT_S} s' in response.message
    assert seconds < TIMEOUT_S + BUSY_S
    cell.up('perception_node')  # as launch does
    cell.feed(100, 4)
    assert eventually(lambda: cell.ask()[0].success, 20.0)


def test_a_restarted_decoder_republishes_open_segments_and_continues(
    cell: Cell,
) -> None:
    cell.nodes['decoder_node'].kill()
    cell.up('decoder_node')
    events = cell.bench.collect(TextEvent, '/cell/text_event', LATCHED)
    [open_still] = events.wait(1, 20.0)  # though nothing changed since
    assert open_still.state == TextEvent.STATE_STARTED
    cell.feed(200, 4)  # a gap resets the stream, which is a change
    _, ended, started = events.wait(3, 20.0)
    assert (ended.state, started.state) == (TextEvent.STATE_ENDED, TextEvent.STATE_STARTED)
    assert (ended.segment_id, ended.text) == (open_still.segment_id, open_still.text)
    assert started.segment_id == ended.segment_id + 1


def test_ctrl_c_publishes_final_texts_and_exits_without_a_traceback(cell: Cell) -> None:
    events = cell.bench.collect(TextEvent, '/cell/text_event', LATCHED)
    eventually(lambda: events and events[-1].state == TextEvent.STATE_STARTED)
    slow = cell.nodes['change_detection_node']  # as on a busy machine: the others are ahead
    slow.pause()
    fast = cell.nodes['query_node']
    printed = len(fast.lines)
    for process in cell.nodes.values():
        process.popen.send_signal(signal.SIGINT)
    fast.wait_for_line('[cell.query_node]: inactive', after=printed)
    slow.resume()
    for process in cell.nodes.values():
        assert process.wait(20.0) == 0
        assert not [line for line in process.lines if 'Traceback' in line]
    eventually(lambda: events[-1].state == TextEvent.STATE_ENDED)


def damaged(folder: Path, to: Path) -> Path:
    """Return a copy of a model with truncated weights."""
    to.mkdir()
    (to / 'model.yaml').write_text((folder / 'model.yaml').read_text())
    weights = (folder / 'weights.safetensors').read_bytes()
    (to / 'weights.safetensors').write_bytes(weights[: len(weights) // 2])
    return to


def test_a_failed_start_gives_one_line_and_an_exit_status(
    processes: RosProcesses, tiny_folder: Path, tmp_path: Path
) -> None:
    torch = pytest.importorskip('torch')
    half = damaged(tiny_folder, tmp_path / 'half')
    good = {'model': str(tiny_folder), 'device': 'cpu'}
    cases = [
        (good | {'model': 'big'}, "unknown model 'big'"),
        (good | {'model': str(half)}, 'is missing or damaged'),
        (good | {'max_gap': -1.0}, 'max_gap'),
    ]
    if not torch.cuda.is_available():
        cases.append((good | {'device': 'cuda:0'}, "device 'cuda:0' is not available"))
    started = [
        (processes.start('perception_node', f'/bad{n}', values), message)
        for n, (values, message) in enumerate(cases)
    ]
    for process, message in started:
        assert process.wait() == ExitStatus.CONFIGURATION
        errors = [line for line in process.lines if '[ERROR]' in line]
        assert len(errors) == 1, process.lines
        assert 'cannot configure: ' in errors[0]
        assert message in errors[0]
        assert not [line for line in process.lines if 'Traceback' in line]
