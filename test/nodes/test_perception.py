# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from helpers import fake_models
from helpers.node_harness import (
    LATCHED,
    MS,
    START_NS,
    Bench,
    eventually,
    fake_pool,
    image_message,
    stamp,
    values_of,
)
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding
from vljepa_ros.srv import Predict

from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import Image as Picture
from vljepa_ros.nodes.conversions import to_floats
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.runtime.health import LOG_EVERY_S

PROMPT = 'What is happening?'


def blended(color: str, prompt: str = PROMPT) -> np.ndarray[Any, Any]:
    """Return the fake's vector, computed from its formula."""
    vector = fake_models.color_vector(color) + 0.2 * fake_models.direction(prompt)
    return vector / np.linalg.norm(vector)


class Feed:
    """Publishes images one by one, each after the previous one was acknowledged."""

    def __init__(self, bench: Bench, topic: str = 'image', kind: type = Image) -> None:
        self._publisher = bench.publisher(kind, topic)
        self.done = bench.collect(Header, 'frame_processed', LATCHED)

    def send(self, *messages: Any) -> None:
        for message in messages:
            count = len(self.done)
            self._publisher.publish(message)
            self.done.wait(count + 1)


def image_messages(color: str, first: int, count: int) -> list[Image]:
    """Return images at 10 frames/s, the fake's rate."""
    return [image_message(color, START_NS + n * 100 * MS) for n in range(first, first + count)]


def test_an_embedding_a_hop_field_by_field(bench: Bench) -> None:
    bench.start(PerceptionNode)
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*image_messages('red', 0, 4))
    first, second = heard.wait(2)
    for message, newest_ms in ((first, 100), (second, 300)):
        assert message.header.stamp == stamp(START_NS + newest_ms * MS)
        assert message.header.frame_id == 'lens'
        assert message.window_start == stamp(START_NS)
        assert message.source == 'camera'
        assert message.prompt == PROMPT
        assert message.model_id == fake_models.FACTS.model_id
        assert np.allclose(message.vector, blended('red'), atol=1e-6)
        assert message.latency.sec == 0
        assert message.latency.nanosec > 0


def test_one_embedding_a_standing_prompt(bench: Bench) -> None:
    bench.start(PerceptionNode, prompts=['What?', ''])
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*image_messages('green', 0, 2))
    what, empty = heard.wait(2)
    assert (what.prompt, empty.prompt) == ('What?', '')
    assert np.allclose(what.vector, blended('green', 'What?'), atol=1e-6)
    assert np.allclose(empty.vector, fake_models.color_vector('green'), atol=1e-6)


def test_model_info_is_latched(bench: Bench) -> None:
    bench.start(
        PerceptionNode, cameras=['left', 'right'], rate=5.0, left__topic='l', right__topic='r'
    )
    [info] = bench.collect(ModelInfo, 'model_info', LATCHED).wait(1)
    assert info == ModelInfo(
        model_id=fake_models.FACTS.model_id,
        embedding_dim=8,
        rate=5.0,
        hop=Duration(nanosec=400_000_000),
        attention_window=Duration(sec=1, nanosec=600_000_000),
        receptive_field=Duration(sec=1, nanosec=600_000_000),
        prompts=[PROMPT],
        sources=['left', 'right'],
        device='cpu',
        dtype='float32',
    )


def test_two_cameras_are_distinguished(bench: Bench) -> None:
    bench.start(PerceptionNode, cameras=['left', 'right'], left__topic='l', right__topic='r')
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    left, right = Feed(bench, 'l'), Feed(bench, 'r')
    for red, blue in zip(image_messages('red', 0, 4), image_messages('blue', 0, 4), strict=True):
        left.send(red)
        right.send(blue)
    found = {(m.source, m.header.stamp.nanosec): m.vector for m in heard.wait(4)}
    assert set(found) == {(s, n * MS) for s in ('left', 'right') for n in (100, 300)}
    for (source, _), vector in found.items():
        assert np.allclose(vector, blended('red' if source == 'left' else 'blue'), atol=1e-6)


class LookingVision(fake_models.FakeVision):
    """Vision side that records its input images."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Picture] = []

    def step(self, state: Any, images: Sequence[Picture]) -> None:
        self.shown += list(images)
        super().step(state, images)


def with_vision(vision: fake_models.FakeVision) -> Any:
    return fake_pool(lambda: Model(fake_models.FACTS, vision, fake_models.FakeLanguage()))


def test_compressed_images_are_decoded_and_rotated(bench: Bench) -> None:
    vision = LookingVision()
    bench.start(
        PerceptionNode,
        with_vision(vision),
        camera__topic='lens/image_raw',
        camera__transport='compressed',
        camera__rotate=90,
    )
    image = fake_models.solid_image('black', 16, 16)
    image[0, 0] = (255, 255, 255)  # top left: a turn by 90 degrees brings it to the top right
    data = cv2.imencode('.png', image)[1].tobytes()
    Feed(bench, 'lens/image_raw/compressed', CompressedImage).send(
        *(
            CompressedImage(
                header=Header(stamp=stamp(START_NS + n * 100 * MS)), format='png', data=data
            )
            for n in range(2)
        )
    )
    eventually(lambda: len(vision.shown) == 2)
    for shown in vision.shown:
        assert np.argwhere(shown.sum(axis=2)).tolist() == [[0, 15]]


def test_images_are_cropped_and_the_crop_changes_at_run_time(bench: Bench) -> None:
    vision = LookingVision()
    node = bench.start(PerceptionNode, with_vision(vision), camera__crop=[0.5, 0.0, 0.5, 1.0])
    feed = Feed(bench)
    sides = np.zeros((16, 32, 3), np.uint8)
    sides[:, 16:] = 255
    feed.send(*(image_of(sides, n) for n in range(2)))
    eventually(lambda: len(vision.shown) == 2)
    assert all(shown.min() == 255 for shown in vision.shown)
    [refused] = node.set_parameters([Parameter('camera.crop', value=[0.5, 0.0, 0.6, 1.0])])
    assert not refused.successful and 'crop' in refused.reason
    [result] = node.set_parameters([Parameter('camera.crop', value=[0.0, 0.0, 0.5, 1.0])])
    assert result.successful
    feed.send(*(image_of(sides, n) for n in range(2, 4)))
    eventually(lambda: len(vision.shown) == 4)
    assert all(shown.max() == 0 for shown in vision.shown[2:])


def test_prompts_change_at_run_time_all_at_once(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    infos = bench.collect(ModelInfo, 'model_info', LATCHED)
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 2))
    infos.wait(1)
    [result] = node.set_parameters([Parameter('prompts', value=['One?', 'Two?'])])
    assert result.successful
    feed.send(*image_messages('red', 2, 2))
    assert [(m.header.stamp.nanosec, m.prompt) for m in heard.wait(3)] == [
        (100 * MS, PROMPT),
        (300 * MS, 'One?'),
        (300 * MS, 'Two?'),
    ]
    assert list(infos.wait(2)[-1].prompts) == ['One?', 'Two?']


def test_predict_answers_from_the_current_state(bench: Bench) -> None:
    bench.start(PerceptionNode)
    Feed(bench).send(*image_messages('yellow', 0, 4))
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['Why?', '']))
    assert response.success
    assert response.message == ''
    assert response.source == 'camera'
    assert response.header == Header(stamp=stamp(START_NS + 300 * MS), frame_id='lens')
    assert response.window_start == stamp(START_NS)
    assert response.model_id == fake_models.FACTS.model_id
    assert np.allclose(response.vectors[0].data, blended('yellow', 'Why?'), atol=1e-6)
    assert np.allclose(response.vectors[1].data, fake_models.color_vector('yellow'), atol=1e-6)


def test_an_unfamiliar_scene_is_published_with_a_warning_until_it_ends(bench: Bench) -> None:
    vision = fake_models.FakeVision(unfamiliar_colors={'blue': 0.75})
    node = bench.start(PerceptionNode, fake_pool(lambda: Model(fake_models.FACTS, vision, None)))
    hops = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(
        *image_messages('red', 0, 2), *image_messages('blue', 2, 28)
    )  # hops of 0.2 s, 2.6 s unfamiliar
    assert [m.unfamiliar for m in hops.wait(15)] == [0.0] + [0.75] * 14
    calm = bench.status(node, lambda s: values_of(s).get('hops') == '15')
    assert calm.level == b'\x00'
    feed.send(*image_messages('blue', 30, 6))
    text = "camera: scene unfamiliar to model 'fake': answers are withheld"
    warned = bench.status(node, lambda s: text in s.message)
    assert warned.level == b'\x01'
    found = bench.call(Predict, 'predict', Predict.Request(prompts=['']))
    assert found.looks[0].unfamiliar == 0.75
    span = {'start': stamp(START_NS), 'end': stamp(START_NS + 700 * MS)}  # red and three of blue
    past = bench.call(Predict, 'predict', Predict.Request(prompts=[''], **span))
    assert [look.unfamiliar for look in past.looks] == [0.5625]
    feed.send(*image_messages('red', 36, 2))
    bench.status(node, lambda s: s.level == b'\x00')


def test_predict_evaluates_a_past_span(bench: Bench) -> None:
    bench.start(PerceptionNode)
    Feed(bench).send(*image_messages('red', 0, 4), *image_messages('blue', 4, 4))
    response = bench.call(
        Predict,
        'predict',
        Predict.Request(prompts=[''], start=stamp(START_NS), end=stamp(START_NS + 300 * MS)),
    )
    assert response.success
    assert response.header.stamp == stamp(START_NS + 300 * MS)
    assert np.allclose(response.vectors[0].data, fake_models.color_vector('red'), atol=1e-6)
    assert [(look.start, look.end) for look in response.looks] == [
        (stamp(START_NS), stamp(START_NS + 300 * MS))
    ]


def segment(start: int, end: int, source: str = 'camera') -> SemanticChange:
    """Return the change that ends a segment of hops and begins another one."""
    return SemanticChange(
        header=Header(stamp=stamp(START_NS + end * 200 * MS)),
        source=source,
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        vector=to_floats(fake_models.color_vector('red')),
        reason=SemanticChange.REASON_MEANING,
        segment_start=stamp(START_NS + end * 200 * MS),
        has_previous=True,
        previous_start=stamp(START_NS + start * 200 * MS),
        previous_end=stamp(START_NS + end * 200 * MS),
        previous_vector=to_floats(fake_models.color_vector('red')),
    )


def test_a_long_span_is_evaluated_once_per_segment(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    Feed(bench).send(*image_messages('red', 0, 100), *image_messages('blue', 100, 100))
    changes = bench.publisher(SemanticChange, 'semantic_change')
    changes.publish(segment(0, 50))
    changes.publish(segment(50, 90))
    request = Predict.Request(prompts=['', 'Why?'], start=stamp(START_NS))
    ends = [stamp(START_NS + (2 * hops - 1) * 100 * MS) for hops in (50, 90)]

    def looked() -> dict[Any, Any]:
        looks = bench.call(Predict, 'predict', request).looks
        return {(look.end.sec, look.end.nanosec): look for look in looks}

    eventually(lambda: looked().keys() >= {(end.sec, end.nanosec) for end in ends})
    for end, color in zip(ends, ('red', 'blue'), strict=True):
        look = looked()[end.sec, end.nanosec]
        assert np.allclose(look.vectors[0].data, fake_models.color_vector(color), atol=1e-6)
        assert np.allclose(look.vectors[1].data, blended(color, 'Why?'), atol=1e-6)
    changes.publish(SemanticChange(reason=99))  # whoever sends that
    bench.status(node, lambda s: 'reason 99' in s.message)
    assert bench.call(Predict, 'predict', request).success


def test_the_node_stops_during_a_past_prediction(bench: Bench, tmp_path: Path) -> None:
    class Slow(fake_models.FakeVision):
        delay_s = 0.0

        def step(self, state: Any, images: Any) -> None:
            time.sleep(self.delay_s)
            super().step(state, images)

    vision = Slow()
    pool = fake_pool(lambda: Model(fake_models.FACTS, vision, None))
    node = bench.start(PerceptionNode, pool, frames_path=str(tmp_path / 'frames.db'))
    Feed(bench).send(*image_messages('red', 0, 100))
    vision.delay_s = 0.1  # the evaluation takes seconds
    client = bench.probe.create_client(Predict, 'predict')
    future = client.call_async(Predict.Request(prompts=[''], start=stamp(START_NS)))
    eventually(lambda: node._stepping)
    bench.do(node, node.trigger_deactivate)
    bench.do(node, node.trigger_cleanup)
    eventually(future.done)
    assert future.result().message.startswith('inactive: perception_node is ')


def test_frames_in_a_file_outlive_the_node(bench: Bench, tmp_path: Path) -> None:
    path = str(tmp_path / 'frames.db')
    node = bench.start(PerceptionNode, frames_path=path)
    Feed(bench).send(*image_messages('red', 0, 20))
    for step in (node.trigger_deactivate, node.trigger_cleanup):
        bench.do(node, step)
    assert bench.do(node, node.bring_up)
    found = bench.call(
        Predict, 'predict', Predict.Request(prompts=[''], start=stamp(START_NS + 1000 * MS))
    )
    assert found.success and found.source == 'camera'
    assert np.allclose(found.vectors[0].data, fake_models.color_vector('red'), atol=1e-6)
    Feed(bench).send(*image_messages('red', 20, 2))
    bench.status(node, lambda s: int(values_of(s)['bytes of stored frames']) > 1000)


def test_an_invalid_frame_store_file_fails_at_configure(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / 'notes'
    path.write_text('not a database ' * 100)
    node = bench.start(PerceptionNode, up=False, frames_path=str(path))
    lines: list[str] = []
    node.get_logger().error = lines.append
    assert not bench.do(node, node.bring_up)
    assert 'notes cannot be used' in lines[0]


@pytest.mark.parametrize(
    ('request_', 'message'),
    [
        (Predict.Request(prompts=['a']), 'several sources, name one (known: left, right)'),
        (Predict.Request(prompts=['a'], source='up'), "unknown source 'up' (known: left, right)"),
        (Predict.Request(prompts=['a'], source='right'), 'no frame yet'),
        (Predict.Request(prompts=['x' * 10_000_000], source='left'), '10,000,000 characters'),
        (Predict.Request(prompts=['word ' * 65], source='left'), 'prompt of 65 words'),
        (Predict.Request(prompts=['a'] * 20_000, source='left'), '20,000 prompts are too many'),
    ],
)
def test_predict_errors_give_the_reason(bench: Bench, request_: Any, message: str) -> None:
    node = bench.start(
        PerceptionNode, cameras=['left', 'right'], left__topic='l', right__topic='r'
    )
    Feed(bench, 'l').send(*image_messages('red', 0, 2))
    response = bench.call(Predict, 'predict', request_)
    assert not response.success
    assert message in response.message
    assert len(response.vectors) == 0
    assert node.health.counts['requests refused'] == 1
    good = bench.call(Predict, 'predict', Predict.Request(prompts=['a'], source='left'))
    assert good.success


def test_predict_answers_inactive_before_configure(bench: Bench) -> None:
    node = bench.start(PerceptionNode, up=False)
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['a']))
    assert (response.success, response.message) == (
        False,
        'inactive: perception_node is unconfigured',
    )
    assert bench.do(node, node.bring_up)
    bench.do(node, node.trigger_deactivate)
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['a']))
    assert response.message == 'inactive: perception_node is inactive'


class SlowVision(fake_models.FakeVision):
    """Vision side that blocks every step until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def step(self, state: Any, images: Sequence[Picture]) -> None:
        self.entered.set()
        assert self.go.wait(10)
        super().step(state, images)


def test_a_busy_node_keeps_the_newest_image_and_counts_drops(bench: Bench) -> None:
    vision = SlowVision()
    node = bench.start(PerceptionNode, with_vision(vision))
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    publisher = feed._publisher
    publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    for n, message in enumerate(image_messages('blue', 2, 5)):  # 2..6 arrive during a busy step
        publisher.publish(message)
        received = n + 3
        eventually(lambda r=received: node._cameras['camera'].stamp_filter.received == r)
    vision.go.set()
    done = feed.done.wait(7)
    order = [round(m.stamp.nanosec / MS / 100) for m in done]
    assert order == [0, 2, 3, 4, 5, 1, 6]  # dropped ones are acknowledged when they are dropped
    assert node.health.counts['camera: dropped, too slow'] == 4
    assert node._cameras['camera'].stamp_filter.resets == 0  # our own drops are no gap
    # The slots of 2..4 are skipped, not filled with earlier frames: one hop is now.
    assert [m.header.stamp.nanosec // MS for m in heard.wait(2)] == [100, 600]
    eventually(lambda: node.describe()['skipped slots'] == '3')


def test_a_damaged_image_does_not_displace_the_pending_one(bench: Bench) -> None:
    vision = SlowVision()
    node = bench.start(PerceptionNode, with_vision(vision))
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    feed._publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    for n, message in enumerate([*image_messages('red', 2, 1), broken(3, step=1)], 3):
        feed._publisher.publish(message)
        eventually(lambda n=n: node._cameras['camera'].stamp_filter.received == n)
    feed.done.wait(2)  # the damaged one is done with at once
    vision.go.set()
    feed.done.wait(4)
    feed.send(*image_messages('red', 4, 1))
    assert [m.header.stamp.nanosec // MS for m in heard.wait(2)] == [100, 200]
    assert node.health.counts['camera: dropped, too slow'] == 0
    assert node.health.counts['camera: damaged images'] == 1


def test_a_damaged_image_is_not_counted_as_dropped(bench: Bench) -> None:
    vision = LookingVision()
    node = bench.start(PerceptionNode, with_vision(vision), camera__transport='compressed')
    feed = Feed(bench, 'image/compressed', CompressedImage)
    red, blue = (
        cv2.imencode('.png', fake_models.solid_image(color)[..., ::-1])[1].tobytes()
        for color in ('red', 'blue')
    )
    for n, data in enumerate([red, red, b'\xff\xd8 its ends are those of a JPEG \xff\xd9', blue]):
        header = Header(stamp=stamp(START_NS + n * 100 * MS))
        feed.send(CompressedImage(header=header, format='jpeg', data=data))
    eventually(lambda: len(vision.shown) == 4)
    assert node._cameras['camera'].stamp_filter.rejected == 1
    # Its slot is filled by the frame before it, as `vljepa annotate` does.
    assert [shown[0, 0].tolist() for shown in vision.shown[2:]] == [[255, 0, 0], [0, 0, 255]]


def test_a_predict_beyond_the_limit_is_busy(bench: Bench) -> None:
    vision = SlowVision()
    bench.start(PerceptionNode, with_vision(vision), max_waiting=1)
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    feed._publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    client = bench.probe.create_client(Predict, 'predict')
    assert client.wait_for_service(5)
    waiting = client.call_async(Predict.Request(prompts=['a']))
    time.sleep(0.2)
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['a']))
    assert (response.success, response.message) == (False, 'busy: 1 requests are pending')
    vision.go.set()
    eventually(waiting.done)
    assert waiting.result().success


class FaultyVision(fake_models.FakeVision):
    """Vision side that fails on green."""

    def step(self, state: Any, images: Sequence[Picture]) -> None:
        if images[-1][0, 0].tolist() == [0, 255, 0]:
            raise RuntimeError('out of memory')
        super().step(state, images)


def test_an_exception_in_the_model_thread_is_shown_and_survived(bench: Bench) -> None:
    node = bench.start(PerceptionNode, with_vision(FaultyVision()))
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(
        *image_messages('red', 0, 2), *image_messages('green', 2, 2), *image_messages('blue', 4, 2)
    )
    assert [m.header.stamp.nanosec // MS for m in heard.wait(2)] == [100, 500]
    assert node.health.counts['errors in the model thread'] == 1
    status = bench.status(node, lambda s: s.level == b'\x02')
    assert status.message == 'RuntimeError: out of memory'


def test_diagnostics_contain_rate_latency_drops_model_and_share(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    Feed(bench).send(*image_messages('red', 0, 8))
    status = bench.status(node, lambda s: float(values_of(s)['rate (Hz)']) > 0)
    values = values_of(status)
    assert status.name == f'{bench.namespace}/perception_node'
    assert status.level == b'\x00'
    assert status.message == 'active'
    assert status.hardware_id == 'cpu'
    assert float(values['latency mean (ms)']) > 0
    expected = {
        'state': 'active',
        'model': fake_models.FACTS.model_id,
        'device': 'cpu',
        'dtype': 'float32',
        'cameras': 'camera',
        'camera: frames received': '8',
        'camera: share of frames received': '1.000',
        'camera: rejected images': '0',
        'hops': '4',
    }
    assert {key: values[key] for key in expected} == expected


def test_lost_frames_show_in_the_share_received(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    publisher = bench.publisher(Image, 'image')
    camera = node._cameras['camera']
    publisher.publish(image_messages('red', 0, 1)[0])
    eventually(lambda: camera.stamp_filter.received == 1)
    blocked = threading.Event()
    node.executor.create_task(lambda: blocked.wait(5))
    for message in image_messages('red', 1, 9):  # a queue of one keeps the last of them only
        publisher.publish(message)
    time.sleep(0.2)
    blocked.set()
    eventually(lambda: camera.stamp_filter.received == 2)
    assert camera.lost == 8
    assert camera.describe()['camera: share of frames received'] == '0.200'


def test_frames_of_two_publishers_are_not_counted_as_lost(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    feed, camera = Feed(bench), node._cameras['camera']
    feed.send(*image_messages('red', 0, 6))
    assert camera.lost == 0
    second = Feed(bench)
    for n in range(6, 12, 2):  # the numbers of one publisher and of the other take turns
        second.send(*image_messages('red', n, 1))
        feed.send(*image_messages('red', n + 1, 1))
    bench.probe.destroy_publisher(feed._publisher)
    eventually(lambda: node.count_publishers(camera.resolved) == 1)
    bench.status(node, lambda s: 'share' not in s.message)
    second.send(*image_messages('red', 12, 2))
    assert camera.lost == 0
    assert camera.describe()['camera: share of frames received'] == '1.000'


def test_a_missing_camera_is_logged_as_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.camera'], 'WAITING_S', 0.5)
    node = bench.start(PerceptionNode, up=False, camera__topic='/lens/image_raw')
    logged: list[str] = []
    node.get_logger().warning = logged.append
    assert bench.do(node, node.bring_up)
    eventually(lambda: len(logged) >= 2)
    text = 'waiting for images on /lens/image_raw (raw): the topic has no publisher'
    assert logged[:2] == [text, text]
    assert bench.status(node, lambda s: s.level == b'\x01').message == text
    publisher = bench.publisher(Image, '/lens/image_raw')
    eventually(lambda: logged[-1].endswith('1 publisher(s), but nothing arrives'))
    done = bench.collect(Header, 'frame_processed', LATCHED)
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.camera'], 'WAITING_S', 60.0)
    publisher.publish(image_messages('red', 0, 1)[0])
    done.wait(1)
    assert bench.status(node, lambda s: s.level == b'\x00').message == 'active'


def test_two_publishers_on_one_topic_are_a_warning(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    bench.publisher(Image, 'image')
    second = bench.publisher(Image, 'image')
    status = bench.status(node, lambda s: s.level == b'\x01')
    assert f'2 publishers share {bench.namespace}/image' in status.message
    bench.probe.destroy_publisher(second)
    bench.status(node, lambda s: 'share' not in s.message)


def test_qos_is_that_of_sensors_and_parameters_override_it(bench: Bench) -> None:
    def of_the_subscription(topic: str) -> QoSProfile:
        [info] = bench.probe.get_subscriptions_info_by_topic(topic)
        return info.qos_profile

    node = bench.start(PerceptionNode, camera__topic='/a/image')
    eventually(lambda: bench.probe.get_subscriptions_info_by_topic('/a/image'))
    assert of_the_subscription('/a/image').reliability == ReliabilityPolicy.BEST_EFFORT
    assert node.get_parameter('qos_overrides./a/image.subscription.depth').value == 1
    bench.do(node, node.bring_down)
    node = bench.start(
        PerceptionNode,
        camera__topic='/b/image',
        **{
            'qos_overrides__/b/image__subscription__reliability': 'reliable',
        },
    )
    eventually(lambda: bench.probe.get_subscriptions_info_by_topic('/b/image'))
    assert of_the_subscription('/b/image').reliability == ReliabilityPolicy.RELIABLE


def test_an_inactive_node_processes_no_image_until_reactivated(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 2))
    bench.do(node, node.trigger_deactivate)
    for message in image_messages('blue', 2, 4):
        feed._publisher.publish(message)
    time.sleep(0.3)
    assert len(feed.done) == 2
    bench.do(node, node.trigger_activate)
    eventually(lambda: feed._publisher.get_subscription_count() == 1)
    feed.send(*image_messages('red', 6, 4))
    assert heard.wait(3)[0].header.stamp.nanosec // MS == 100
    assert all(np.allclose(m.vector, blended('red'), atol=1e-6) for m in heard)


# Bad input: the message, the counter, and that the next good frame is as without it.


class RememberingVision(fake_models.FakeVision):
    """Vision side with a vector that depends on all previous frames in order."""

    def predict(self, state: Any, prompts: Sequence[str]) -> Any:
        return np.stack([fake_models.direction(repr(state.seen) + p) for p in prompts])


def image_of(pixels: np.ndarray, index: int) -> Image:
    """Return a message with these pixels (H, W, 3), at 10 frames/s."""
    message = image_message('black', START_NS + index * 100 * MS)
    message.height, message.width = pixels.shape[:2]
    message.step, message.data = 3 * message.width, array.array('B', pixels.tobytes())
    return message


def broken(index: int, **changes: Any) -> Image:
    message = image_message('black', START_NS + index * 100 * MS)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def vectors(bench: Bench, *messages: Image) -> tuple[Any, list[Any]]:
    node = bench.start(PerceptionNode, with_vision(RememberingVision()))
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*messages)
    time.sleep(0.1)
    return node, [list(m.vector) for m in heard]


GOOD = [*image_messages('red', 0, 3), *image_messages('blue', 4, 4)]


@pytest.fixture(scope='module')
def undisturbed(ros: None) -> list[Any]:
    """Return the embeddings of the valid images alone."""
    bench = Bench()
    _, found = vectors(bench, *GOOD)
    bench.close()
    return found


@pytest.mark.parametrize(
    ('bad', 'message', 'counter'),
    [
        (broken(3, encoding='rgb9'), "unknown encoding 'rgb9'", 'damaged images'),
        (broken(3, encoding=''), "unknown encoding ''", 'damaged images'),
        (broken(3, width=0), 'image of 0x24 pixels', 'damaged images'),
        (broken(3, width=4_000_000_000), 'image of 4000000000x24 pixels', 'damaged images'),
        (broken(3, width=33), 'step (96) is shorter than a row of 33 pixels', 'damaged images'),
        (broken(3, step=1), 'step (1) is shorter', 'damaged images'),
        (broken(3, height=25), 'does not match height (25) x step (96)', 'damaged images'),
        (broken(3, data=b''), 'data of 0 bytes', 'damaged images'),
        (broken(2), ' repeats: frame dropped', 'irregular stamps'),
        (broken(1), 'stamp goes back by 0.100 s', 'irregular stamps'),
    ],
)
def test_only_the_invalid_image_is_dropped(
    bench: Bench, undisturbed: list[Any], bad: Image, message: str, counter: str
) -> None:
    node, found = vectors(bench, *GOOD[:3], bad, *GOOD[3:])
    assert node.health.counts[f'camera: {counter}'] == 1
    assert message in values_of(bench.status(node, lambda s: True))['last trouble']
    assert found == undisturbed
    assert len(found) == 4
    assert np.isfinite(found).all()


@pytest.mark.parametrize(('shift_ms', 'where'), [(60_000, 'forward'), (-60_000, 'back')])
def test_stamp_jumps_reset_the_camera(bench: Bench, shift_ms: int, where: str) -> None:
    later = [image_message('blue', START_NS + (shift_ms + n * 100) * MS) for n in range(4)]
    node, found = vectors(bench, *GOOD[:3], *later)
    assert node.health.counts['camera: irregular stamps'] == 1
    assert node._cameras['camera'].stamp_filter.resets == 1
    problem = values_of(bench.status(node, lambda s: True))['last trouble']
    assert f'stamp jumps {where} by' in problem
    # Afterwards it is as if there had been nothing before.
    fresh = [fake_models.direction(repr(['blue'] * n) + PROMPT) for n in (1, 2)]
    assert np.allclose(found[-2:], fresh)


def test_a_change_of_image_size_is_reported_and_processing_continues(bench: Bench) -> None:
    messages = image_messages('red', 0, 20)
    image = fake_models.solid_image('red', 48, 64)
    for large in messages[2::2]:
        large.height, large.width, large.step = 48, 64, 192
        large.data = image.tobytes()
    node, logged = bench.start(PerceptionNode), list[str]()
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    node.get_logger().warning = logged.append
    began_s = time.monotonic()
    Feed(bench).send(*messages)
    windows = 1 + (time.monotonic() - began_s) // LOG_EVERY_S
    values = values_of(bench.status(node, lambda s: True))
    assert values['camera: size changes'] == values['camera: odd images'] == '18'
    assert 1 <= sum('changed size from' in line for line in logged) <= windows
    assert all(np.allclose(m.vector, blended('red'), atol=1e-6) for m in heard.wait(10))


def test_a_truncated_jpeg_costs_nothing_but_itself(bench: Bench) -> None:
    node = bench.start(
        PerceptionNode, with_vision(RememberingVision()), camera__transport='compressed'
    )
    heard = bench.collect(SemanticEmbedding, 'semantic_embedding')
    jpeg = cv2.imencode('.jpg', fake_models.solid_image('red')[..., ::-1])[1].tobytes()
    feed = Feed(bench, 'image/compressed', CompressedImage)
    for n, data in enumerate([jpeg, jpeg, jpeg[:-20], jpeg, b'no picture', b'']):
        feed.send(
            CompressedImage(
                header=Header(stamp=stamp(START_NS + n * 100 * MS)), format='jpeg', data=data
            )
        )
    feed.send(
        CompressedImage(header=Header(stamp=stamp(START_NS + 700 * MS)), format='jpeg', data=jpeg)
    )
    assert node._cameras['camera'].stamp_filter.rejected == 3
    assert node.health.counts['camera: damaged images'] == 3
    problem = values_of(bench.status(node, lambda s: True))['last trouble']
    assert problem == "camera: compressed image 'jpeg' without data"
    time.sleep(0.1)
    assert np.allclose(
        [m.vector for m in heard],
        [fake_models.direction(repr(['red'] * n) + PROMPT) for n in range(1, len(heard) + 1)],
    )
    assert len(heard) == 4
