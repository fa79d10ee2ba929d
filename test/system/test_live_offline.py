# SPDX-License-Identifier: Apache-2.0
"""The running stack with `vljepa play --lossless` publishes the same events as `vljepa annotate`.

Four processes over DDS against the pipeline in this process: ids, states, texts, and spans to the
nanosecond.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import bags
from helpers.annotated_bags import CAPTIONS, SHORT, film, save_start, tune_config
from helpers.node_harness import LATCHED, RELIABLE, Bench, eventually, values_of
from helpers.ros_processes import NODES, ROOT, Process, RosProcesses, play
from std_msgs.msg import Header
from vljepa_ros.msg import SemanticEmbedding, TextEvent

from vljepa_ros.core.settings import PerceptionSettings, SegmenterSettings, Settings
from vljepa_ros.core.types import Event, State
from vljepa_ros.model import registry
from vljepa_ros.nodes.conversions import from_event_message
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import open_source
from vljepa_ros.train.fine_tuning.run import tune

# So low that a model with random weights yields segments and drift updates.
FINE = {
    'change_threshold': 0.02,
    'confirm_hops': 2,
    'min_segment': 0.8,
    'drift_threshold': 0.00005,
}


class Stack:
    """Four processes in one namespace, with a recording of their messages."""

    def __init__(
        self, processes: RosProcesses, bench: Bench, name: str, values: dict[str, Any]
    ) -> None:
        values = {
            'device': 'cpu',
            'threads': 1,
            'camera.topic': '/camera/image_raw',
            'camera.transport': 'compressed',
            **values,
        }
        self.processes: dict[str, Process] = {}
        for node in NODES:
            mine = (
                values
                if node == 'perception_node'
                else {key: value for key, value in values.items() if not key.startswith('camera.')}
            )
            self.processes[node] = processes.start(node, f'/{name}', mine)
        for node, process in self.processes.items():
            process.wait_for_line(f'[{name}.{node}]: active')
        self._bench, self._name = bench, name
        self.embeddings = bench.collect(SemanticEmbedding, f'/{name}/semantic_embedding', RELIABLE)
        self.events = bench.collect(TextEvent, f'/{name}/text_event', LATCHED)
        self.processed = bench.collect(Header, f'/{name}/frame_processed', RELIABLE)

    def settle(self, decodes: int) -> None:
        """Wait until all embeddings and changes are processed, with this number of decodes."""

        def counts(node: str, key: str) -> list[int]:
            mine = [s for s in self._bench.diagnostics if s.name == f'/{self._name}/{node}']
            # Two equal values in sequence: no message is pending.
            return [int(values_of(s).get(key, 0)) for s in mine[-2:]]

        eventually(
            lambda: (
                counts('change_detection_node', 'embeddings') == [len(self.embeddings)] * 2
                and counts('decoder_node', 'events') == [len(self.events)] * 2
                and counts('decoder_node', 'backlog') == [0, 0]
            ),
            300.0,
            'the stack does not come to rest',
        )
        assert counts('decoder_node', 'decodes') == [decodes] * 2

    def end(self, expected: int) -> list[Event]:
        """Interrupt the stack in data-flow order; return all events, as many as expected."""
        for node, process in self.processes.items():
            assert process.interrupt() == 0
            if node == 'change_detection_node':  # which ends all segments; the decoder follows
                eventually(lambda: len(self.events) >= expected, 120.0, f'{expected} events')
        return [from_event_message(message) for message in self.events]


@pytest.fixture(scope='module')
def bench(ros: int) -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def offline(model: str, folder: Path, settings: Settings) -> tuple[list[Event], int]:
    """Return all events, and the number of decodes before the end of the recording."""
    pipeline = Pipeline(registry.load(model, device='cpu', threads=1), settings)
    events: list[Event] = []
    for frame in open_source(folder):
        events += pipeline.push(frame)
    decodes = pipeline.writer.decodes
    return events + pipeline.finish(), decodes


def assert_same_events(live: list[Event], expected: list[Event]) -> None:
    """Assert that events are equal except for the session."""

    def plain(event: Event) -> tuple[Any, ...]:
        return (
            event.key,
            event.segment_id,
            event.state,
            event.start_ns,
            event.end_ns,
            event.stamp_ns,
            event.text,
        )

    assert [plain(event) for event in live] == [plain(event) for event in expected]
    for a, b in zip(live, expected):
        assert a.confidence == pytest.approx(b.confidence, abs=1e-6)
    assert len({event.session_id for event in live}) == 1


@pytest.fixture(scope='module')
def changing_colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twenty seconds of changing colors with noise, stamp jitter and one gap."""
    rng = np.random.default_rng(4)
    rows, stamp_ns = [], bags.START_NS
    for number in range(200):
        base = np.array([[255, 40, 40], [40, 60, 255], [30, 30, 30], [240, 240, 90]])[
            number // 25 % 4
        ]
        image = np.clip(base + rng.normal(0, 12, (48, 64, 3)), 0, 255).astype(np.uint8)
        rows.append((bags.TOPIC, stamp_ns, bags.compressed(stamp_ns, bags.jpeg(image))))
        stamp_ns += 100_000_000 + int(rng.integers(-20_000_000, 20_000_000))
        stamp_ns += 3_000_000_000 if number == 120 else 0
    return bags.write(tmp_path_factory.mktemp('changing_colors') / 'bag', rows)


def test_the_running_stack_publishes_the_same_events_as_annotate(
    ros: int, processes: RosProcesses, bench: Bench, tiny_folder: Path, changing_colors: Path
) -> None:
    stack = Stack(
        processes,
        bench,
        'live',
        {'model': str(tiny_folder), 'prompts': ['What is happening?', 'Which colour?'], **FINE},
    )
    found = play(ros, changing_colors, '--lossless', '--namespace', 'live', '--json')
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)['messages'] == 200
    expected, decodes = offline(
        str(tiny_folder),
        changing_colors,
        Settings(
            PerceptionSettings(prompts=('What is happening?', 'Which colour?')),
            SegmenterSettings(
                **{f'{k}_s' if k == 'min_segment' else k: v for k, v in FINE.items()}
            ),
        ),
    )
    stack.settle(decodes)
    live = stack.end(len(expected))
    ended = [event for event in expected if event.state is State.ENDED]
    assert len(ended) >= 8 and len({event.state for event in expected}) == 3
    by_stream: Callable[[Event], Any] = lambda event: event.key.prompt  # noqa: E731
    assert_same_events(sorted(live, key=by_stream), sorted(expected, key=by_stream))
    assert len(stack.processed) >= 200


def test_the_shipped_model_live_equals_annotate_on_the_sample(
    ros: int, processes: RosProcesses, bench: Bench
) -> None:
    stack = Stack(processes, bench, 'shipped', {'model': 'small'})
    sample = ROOT / 'samples' / 'bench'
    found = play(ros, sample, '--lossless', '--namespace', 'shipped')
    assert found.returncode == 0, found.stderr
    events, decodes = offline('small', sample, Settings())
    stack.settle(decodes)
    live = [event for event in stack.end(len(events)) if event.state is State.ENDED]
    printed = subprocess.run(
        [
            sys.executable,
            '-m',
            'vljepa_ros.cli.main',
            'annotate',
            str(sample),
            '--json',
            '--device',
            'cpu',
            '--threads',
            '1',
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=ROOT,
    ).stdout
    start_ns = open_source(sample).start_ns
    expected = [json.loads(line) for line in printed.splitlines()]
    assert len(expected) >= 10
    assert expected == [
        {
            'source': event.key.source,
            'segment': event.segment_id,
            'start': round((event.start_ns - start_ns) / 1e9, 9),
            'end': round((event.end_ns - start_ns) / 1e9, 9),
            'text': event.text,
            'confidence': pytest.approx(event.confidence, abs=1e-6),
        }
        for event in live
    ]


def test_a_fine_tuned_model_runs_in_the_stack(
    ros: int, processes: RosProcesses, bench: Bench, tmp_path: Path
) -> None:
    """docs/guide/fine_tuning.md, last step: the stack reports new texts and the new model id."""
    shown = film(tmp_path, ['red', 'blue', 'green', 'blue', 'red', 'green'], 'shown')
    values = {
        **SHORT,
        'start': str(save_start(tmp_path / 'start')),
        'out': str(tmp_path / 'mine'),
        'tune': 'all',
        'recordings': [{'source': shown.source, 'annotations': shown.annotations}],
    }
    folder = tune(tune_config(values, tmp_path / 'mine.yaml')).folder
    stack = Stack(processes, bench, 'mine', {'model': str(folder)})
    found = play(ros, Path(shown.source), '--lossless', '--namespace', 'mine')
    assert found.returncode == 0, found.stderr
    expected, decodes = offline(str(folder), Path(shown.source), Settings())
    stack.settle(decodes)
    live = stack.end(len(expected))
    assert_same_events(live, expected)
    assert {event.key.model_id.partition('-')[0] for event in live} == {'mine'}
    # All words come from the annotations; after such a short training, whether whole sentences are
    # right depends on the machine's arithmetic.
    texts = [event.text for event in live if event.state is State.ENDED]
    known = {word for text in CAPTIONS.values() for word in text.lower().split()}
    assert len(texts) >= 5 and all(texts)
    assert {word for text in texts for word in text.split()} <= known


def test_play_reports_missing_subscribers(ros: int, changing_colors: Path) -> None:
    found = play(ros, changing_colors, '--lossless', '--timeout', '1', '--namespace', 'missing')
    assert found.returncode == 2 and found.stdout == '' and found.stderr.count('\n') == 1
    assert 'no subscriber' in found.stderr and '/missing/frame_processed' in found.stderr


def test_play_at_a_rate_keeps_stamps_and_publishes_the_clock(
    ros: int, bench: Bench, changing_colors: Path
) -> None:
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CompressedImage

    from vljepa_ros.nodes.conversions import to_ns

    images = bench.collect(CompressedImage, '/elsewhere')
    clock = bench.collect(Clock, '/clock')
    found = play(
        ros, changing_colors, '--rate', '8', '--topic-remap', f'{bags.TOPIC}:=/elsewhere', '--json'
    )
    assert found.returncode == 0, found.stderr
    assert 23 / 8 - 0.1 <= json.loads(found.stdout)['seconds'] < 23
    assert len(images.wait(200, 5.0)) == 200
    stamps = [to_ns(message.header.stamp) for message in images]
    assert stamps == [frame.stamp_ns for frame in open_source(changing_colors)]
    assert {message.header.frame_id for message in images} == {'optical'}
    ticks = [to_ns(message.clock) for message in clock]
    assert ticks == sorted(ticks) and ticks[-1] == stamps[-1]


def test_the_clock_runs_between_images(ros: int, bench: Bench, changing_colors: Path) -> None:
    from rosgraph_msgs.msg import Clock

    from vljepa_ros.nodes.conversions import to_ns

    clock = bench.collect(Clock, '/clock')
    play(ros, changing_colors, '--rate', '2', '--topic-remap', f'{bags.TOPIC}:=/elsewhere')
    ticks = {to_ns(message.clock) for message in clock}
    assert ticks - {frame.stamp_ns for frame in open_source(changing_colors)}
