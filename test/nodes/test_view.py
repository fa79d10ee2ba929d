# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import json
import os
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from helpers.node_harness import (
    LATCHED,
    MS,
    START_NS,
    Bench,
    eventually,
    image_message,
    stamp,
    values_of,
)
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32, Header
from vljepa_ros.msg import SemanticChange, SemanticEmbedding, TextEvent

from vljepa_ros.nodes.view import ViewNode

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
HOSTILE = '<b>\x1b[31m\u202eevil \U0001f9be'


def event(text: str = 'a red cup', **changes: Any) -> TextEvent:
    """Return a text event of the camera that the node has by default."""
    message = TextEvent(
        header=Header(stamp=stamp(START_NS), frame_id='lens'),
        source='camera',
        model_id='m',
        session_id='s',
        segment_id=1,
        start=stamp(START_NS),
        end=stamp(START_NS),
        text=text,
        confidence=0.75,
        abstained=not text,
        abstain_reason=0 if text else TextEvent.ABSTAIN_UNFAMILIAR,
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def embedding() -> SemanticEmbedding:
    """Return an embedding with a latency of 250 ms."""
    return SemanticEmbedding(
        header=Header(stamp=stamp(START_NS), frame_id='lens'),
        source='camera',
        model_id='m',
        unfamiliar=0.125,
        latency=Duration(nanosec=250_000_000),
    )


def large_image(stamp_ns: int) -> Image:
    """Return a red image that is large enough for texts."""
    message = image_message('red', stamp_ns)
    message.height, message.width, message.step = 96, 128, 3 * 128
    message.data = array.array('B', b'\xff\x00\x00' * (96 * 128))
    return message


class Harness:
    """view_node with the stack's topics as input."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.node = bench.start(ViewNode)
        self.images = bench.probe.create_publisher(Image, 'image', 10)
        self.embeddings = bench.publisher(SemanticEmbedding, 'semantic_embedding')
        self.events = bench.publisher(TextEvent, 'text_event', LATCHED)
        self.number = 0

    def send_until(self, received: list[Any], count: int = 1) -> None:
        """Publish images at 20 Hz until messages were received."""
        end_s = time.monotonic() + 20
        while len(received) < count:
            assert time.monotonic() < end_s, 'no overlay arrived'
            self.number += 1
            self.images.publish(large_image(START_NS + self.number * 50 * MS))
            time.sleep(0.05)

    def show(self, text: str) -> None:
        """Publish an event and wait until the node has it."""
        self.events.publish(event(text))
        eventually(lambda: self.node._listener.state.events)


@pytest.fixture
def view(bench: Bench) -> Harness:
    """Return a harness with an active view_node."""
    return Harness(bench)


def test_images_are_not_subscribed_to_without_a_viewer(view: Harness) -> None:
    view.bench.status(view.node, lambda s: values_of(s)['image subscriptions'] == '0')
    assert view.images.get_subscription_count() == 0


def test_the_subscription_to_images_follows_the_viewer(view: Harness) -> None:
    topic = 'view/camera/overlay'
    viewer = view.bench.probe.create_subscription(Image, topic, lambda m: None, BEST_EFFORT)
    eventually(lambda: view.images.get_subscription_count() == 1)
    view.bench.do(view.bench.probe, view.bench.probe.destroy_subscription, viewer)
    eventually(lambda: view.images.get_subscription_count() == 0)


def test_the_overlay_has_the_image_stamp_and_a_darkened_band(view: Harness) -> None:
    view.show('a red cup')
    overlays = view.bench.collect(Image, 'view/camera/overlay')
    view.send_until(overlays)
    sent = large_image(0)
    found = overlays[0]
    assert (found.height, found.width, found.encoding) == (sent.height, sent.width, 'rgb8')
    assert found.header.frame_id == 'lens'
    shift_ns = found.header.stamp.sec * 10**9 + found.header.stamp.nanosec - START_NS
    assert shift_ns > 0 and shift_ns % (50 * MS) == 0
    before, after = (
        np.frombuffer(m.data, np.uint8).reshape(m.height, m.width, 3) for m in (sent, found)
    )
    assert np.array_equal(before[m_middle(before)], after[m_middle(after)])
    assert not np.array_equal(before[-3], after[-3])


def m_middle(image: np.ndarray) -> int:
    """Return the number of the middle row of an image."""
    return image.shape[0] // 2


def test_the_compressed_overlay_is_a_jpeg_image(view: Harness) -> None:
    overlays = view.bench.collect(CompressedImage, 'view/camera/overlay/compressed')
    view.send_until(overlays)
    decoded = cv2.imdecode(np.frombuffer(overlays[0].data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (96, 128, 3)
    assert 'jpeg' in overlays[0].format


def test_each_embedding_gives_scalars(view: Harness) -> None:
    names = ('change_score', 'confidence', 'unfamiliar', 'latency')
    found = {name: view.bench.collect(Float32, f'view/camera/{name}') for name in names}
    changes = view.bench.publisher(SemanticChange, 'semantic_change')
    changes.publish(SemanticChange(source='camera', score=0.5))
    view.show('a red cup')
    eventually(lambda: view.node._listener.state.stream('camera', '').score)
    view.embeddings.publish(embedding())
    values = {name: found[name].wait(1)[0].data for name in names}
    assert values == {
        'change_score': 0.5,
        'confidence': 0.75,
        'unfamiliar': 0.125,
        'latency': 0.25,
    }


def test_markers_have_the_plain_text_in_the_frame_of_the_camera(view: Harness) -> None:
    markers = pytest.importorskip('visualization_msgs.msg', reason='needs visualization_msgs')
    found = view.bench.collect(markers.MarkerArray, 'view/markers')
    view.events.publish(event(HOSTILE))
    [marker] = found.wait(1)[0].markers
    assert marker.type == markers.Marker.TEXT_VIEW_FACING
    assert marker.action == markers.Marker.ADD
    assert marker.header.frame_id == 'lens' and marker.ns == 'camera'
    assert marker.text == '<b> [31m evil \U0001f9be'
    view.events.publish(event(state=TextEvent.STATE_ENDED))
    assert found.wait(2)[1].markers[0].action == markers.Marker.DELETE


def test_other_cameras_than_the_nodes_are_ignored(view: Harness) -> None:
    found = view.bench.collect(Float32, 'view/camera/latency')
    other = embedding()
    other.source = 'elsewhere'
    view.embeddings.publish(other)
    view.embeddings.publish(embedding())
    assert found.wait(1)[0].data == 0.25
    view.bench.status(view.node, lambda s: s.level == b'\x00')


def top(ros: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `vljepa top` in the domain of the bench."""
    return subprocess.run(
        [sys.executable, '-m', 'vljepa_ros.cli.main', 'top', *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {'ROS_DOMAIN_ID': str(ros)},
    )


def test_top_once_prints_the_state_as_one_json_object(view: Harness, ros: int) -> None:
    view.bench.probe.create_timer(0.1, lambda: view.embeddings.publish(embedding()))
    view.bench.probe.create_timer(0.1, lambda: view.events.publish(event(HOSTILE)))
    name = view.bench.namespace
    found = top(ros, '--namespace', name, '--once', '--json', '--seconds', '5')
    assert found.returncode == 0, found.stderr
    state = json.loads(found.stdout)
    [stream] = state['streams']
    assert stream['source'] == 'camera' and stream['latency'] == 0.25
    assert 5 < stream['rate'] < 15
    assert stream['text'] == '<b> [31m evil \U0001f9be'
    assert f'{name}/view_node' in [node['name'] for node in state['nodes']]


def test_top_reports_a_missing_stack_in_one_line(ros: int) -> None:
    found = top(ros, '--namespace', 'nowhere', '--once', '--seconds', '1')
    assert found.returncode == 75 and found.stdout == ''
    assert found.stderr.count('\n') == 1 and "namespace '/nowhere'" in found.stderr


@pytest.mark.parametrize(
    ('arguments', 'part'),
    [
        ([], 'not a terminal'),
        (['--json'], '--once'),
        (['--once', '--seconds', 'nan'], '--seconds'),
        (['--once', '--namespace', 'a b'], "namespace 'a b'"),
    ],
)
def test_top_rejects_invalid_arguments(ros: int, arguments: list[str], part: str) -> None:
    found = top(ros, *arguments)
    assert found.returncode == 2 and found.stdout == ''
    assert found.stderr.count('\n') == 1 and part in found.stderr
