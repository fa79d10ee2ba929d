# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import itertools
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
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
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding
from vljepa_ros.srv import Predict

from vljepa_ros.core import types
from vljepa_ros.core.errors import ErrorCode
from vljepa_ros.core.protocols import Model
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
        self.publisher = bench.publisher(kind, topic)
        self.processed = bench.collect(Header, 'frame_processed', LATCHED)

    def send(self, *messages: Any) -> None:
        for message in messages:
            count = len(self.processed)
            self.publisher.publish(message)
            self.processed.wait(count + 1)


def camera_count(node: PerceptionNode, name: str) -> int:
    """Return a counter of the camera from the diagnostics."""
    return int(node.describe()[f'camera: {name}'])


def image_messages(color: str, first: int, count: int) -> list[Image]:
    """Return images at 10 frames/s, the fake's rate."""
    return [image_message(color, START_NS + n * 100 * MS) for n in range(first, first + count)]


def test_one_embedding_is_published_per_hop(bench: Bench) -> None:
    bench.start(PerceptionNode)
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*image_messages('red', 0, 4))
    first, second = embeddings.wait(2)
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


def test_one_embedding_is_published_per_standing_prompt(bench: Bench) -> None:
    bench.start(PerceptionNode, prompts=['What?', ''])
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*image_messages('green', 0, 2))
    what, empty = embeddings.wait(2)
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
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    left, right = Feed(bench, 'l'), Feed(bench, 'r')
    for red, blue in zip(image_messages('red', 0, 4), image_messages('blue', 0, 4), strict=True):
        left.send(red)
        right.send(blue)
    found = {(m.source, m.header.stamp.nanosec): m.vector for m in embeddings.wait(4)}
    assert set(found) == {(s, n * MS) for s in ('left', 'right') for n in (100, 300)}
    for (source, _), vector in found.items():
        assert np.allclose(vector, blended('red' if source == 'left' else 'blue'), atol=1e-6)


class RecordingVision(fake_models.FakeVision):
    """Vision side that records its input images."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[types.Image] = []

    def step(self, state: Any, images: Sequence[types.Image]) -> None:
        self.images += list(images)
        super().step(state, images)


def with_vision(vision: fake_models.FakeVision) -> Any:
    return fake_pool(lambda: Model(fake_models.FACTS, vision, fake_models.FakeLanguage()))


def test_compressed_images_are_decoded_and_rotated(bench: Bench) -> None:
    vision = RecordingVision()
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
    eventually(lambda: len(vision.images) == 2)
    for image in vision.images:
        assert np.argwhere(image.sum(axis=2)).tolist() == [[0, 15]]


@pytest.mark.parametrize('publishes_first', [True, False])
def test_compressed_images_may_have_any_topic_name(bench: Bench, publishes_first: bool) -> None:
    vision = RecordingVision()
    if publishes_first:
        first = bench.probe.create_publisher(CompressedImage, 'lens/jpeg', 1)
        eventually(lambda: bench.probe.count_publishers(first.topic_name) == 1)
    bench.start(
        PerceptionNode,
        with_vision(vision),
        camera__topic='lens/jpeg',
        camera__transport='compressed',
    )
    lens = Feed(bench, 'lens/jpeg', CompressedImage)  # waits for the subscription
    data = cv2.imencode('.png', fake_models.solid_image('red'))[1].tobytes()
    images = (
        CompressedImage(
            header=Header(stamp=stamp(START_NS + n * 100 * MS)), format='png', data=data
        )
        for n in range(2)
    )
    lens.send(*images)
    eventually(lambda: len(vision.images) == 2)


def test_a_topic_of_another_type_is_named_with_the_remedy(bench: Bench) -> None:
    context = Context()  # of its own, as in another process
    rclpy.init(context=context, domain_id=bench.probe.context.get_domain_id())
    lens = Node('lens', namespace=bench.namespace, context=context)
    lens.create_publisher(CompressedImage, 'lens/jpeg', 1)
    node = bench.start(PerceptionNode, with_vision(RecordingVision()), camera__topic='lens/jpeg')
    eventually(lambda: 'camera.transport to compressed' in node.health.summary('active')[1], 20.0)
    lens.destroy_node()
    rclpy.shutdown(context=context)


def test_images_are_cropped_and_the_crop_changes_at_run_time(bench: Bench) -> None:
    vision = RecordingVision()
    node = bench.start(PerceptionNode, with_vision(vision), camera__crop=[0.5, 0.0, 0.5, 1.0])
    feed = Feed(bench)
    sides = np.zeros((16, 32, 3), np.uint8)
    sides[:, 16:] = 255
    feed.send(*(image_of(sides, n) for n in range(2)))
    eventually(lambda: len(vision.images) == 2)
    assert all(image.min() == 255 for image in vision.images)
    [refused] = node.set_parameters([Parameter('camera.crop', value=[0.5, 0.0, 0.6, 1.0])])
    assert not refused.successful and 'crop' in refused.reason
    [result] = node.set_parameters([Parameter('camera.crop', value=[0.0, 0.0, 0.5, 1.0])])
    assert result.successful
    feed.send(*(image_of(sides, n) for n in range(2, 4)))
    eventually(lambda: len(vision.images) == 4)
    assert all(image.max() == 0 for image in vision.images[2:])


def test_a_new_crop_resets_the_stream_of_its_camera_only(bench: Bench) -> None:
    node = bench.start(
        PerceptionNode,
        cameras=['left', 'right'],
        left__crop=[0.0, 0.0, 0.5, 1.0],
        right__crop=[0.5, 0.0, 0.5, 1.0],
    )
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    sides = np.zeros((16, 32, 3), np.uint8)
    sides[:, 16:] = 255
    feed.send(*(image_of(sides, n) for n in range(3)))  # one hop, and half of another one
    same = node.set_parameters([Parameter('left.crop', value=[0.0, 0.0, 0.5, 1.0])])
    other = node.set_parameters([Parameter('right.crop', value=[0.5, 0.5, 0.5, 0.5])])
    assert same[0].successful and other[0].successful
    feed.send(*(image_of(sides, n) for n in range(3, 5)))
    first_left, first_right, left, right = sorted(
        embeddings.wait(4), key=lambda m: (m.header.stamp.nanosec, m.source)
    )
    assert (left.source, left.header.stamp.nanosec) == ('left', 300 * MS)
    assert left.window_start == stamp(START_NS) and left.reset_count == first_left.reset_count
    # The half tubelet of `right` is discarded: its next one begins with the new crop.
    assert (right.source, right.header.stamp.nanosec) == ('right', 400 * MS)
    assert right.window_start == stamp(START_NS + 300 * MS)
    assert right.reset_count == first_right.reset_count + 1
    described = node.describe()
    assert (described['left: resets'], described['right: resets']) == ('0', '1')


def test_regions_of_one_camera_share_a_subscription_and_are_sources(bench: Bench) -> None:
    node = bench.start(
        PerceptionNode,
        cameras=['door', 'bench', 'other'],
        door__topic='lens',
        door__crop=[0.0, 0.0, 0.5, 1.0],
        bench__topic=f'{bench.namespace}/lens',  # the same topic
        bench__crop=[0.5, 0.0, 0.5, 1.0],
        other__topic='other',
    )
    topics = [subscription.topic_name for subscription in node.subscriptions]
    assert [topics.count(f'{bench.namespace}/{name}') for name in ('lens', 'other')] == [1, 1]
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    [info] = bench.collect(ModelInfo, 'model_info', LATCHED).wait(1)
    assert list(info.sources) == ['door', 'bench', 'other']
    feed = Feed(bench, 'lens')
    sides = np.zeros((16, 32, 3), np.uint8)
    sides[:, :16], sides[:, 16:] = (255, 0, 0), (0, 0, 255)
    for number in range(2):
        count = len(feed.processed)
        feed.publisher.publish(image_of(sides, number))
        assert {m.frame_id for m in feed.processed.wait(count + 2)[count:]} == {'door', 'bench'}
    found = {m.source: m for m in embeddings.wait(2)}
    assert np.allclose(found['door'].vector, blended('red'), atol=1e-6)
    assert np.allclose(found['bench'].vector, blended('blue'), atol=1e-6)
    past = bench.call(
        Predict,
        'predict',
        Predict.Request(prompts=[''], source='bench', start=stamp(START_NS)),
    )
    assert np.allclose(past.vectors[0].data, fake_models.color_vector('blue'), atol=1e-6)


def test_all_prompts_change_together_at_run_time(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    infos = bench.collect(ModelInfo, 'model_info', LATCHED)
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 2))
    infos.wait(1)
    [result] = node.set_parameters([Parameter('prompts', value=['One?', 'Two?'])])
    assert result.successful
    feed.send(*image_messages('red', 2, 2))
    assert [(m.header.stamp.nanosec, m.prompt) for m in embeddings.wait(3)] == [
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
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(
        *image_messages('red', 0, 2), *image_messages('blue', 2, 28)
    )  # hops of 0.2 s, 2.6 s unfamiliar
    assert [m.unfamiliar for m in embeddings.wait(15)] == [0.0] + [0.75] * 14
    calm = bench.status(node, lambda s: values_of(s).get('hops') == '15')
    assert calm.level == b'\x00'
    feed.send(*image_messages('blue', 30, 6))
    warned = bench.status(node, lambda s: 'camera' in s.message and 'unfamiliar' in s.message)
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

    def predicted() -> dict[Any, Any]:
        looks = bench.call(Predict, 'predict', request).looks
        return {(look.end.sec, look.end.nanosec): look for look in looks}

    eventually(lambda: predicted().keys() >= {(end.sec, end.nanosec) for end in ends})
    for end, color in zip(ends, ('red', 'blue'), strict=True):
        look = predicted()[end.sec, end.nanosec]
        assert np.allclose(look.vectors[0].data, fake_models.color_vector(color), atol=1e-6)
        assert np.allclose(look.vectors[1].data, blended(color, 'Why?'), atol=1e-6)
    changes.publish(SemanticChange(reason=99))  # not a reason
    bench.status(node, lambda s: 'reason 99' in s.message)
    assert bench.call(Predict, 'predict', request).success


def test_the_node_stops_during_a_past_prediction(bench: Bench, tmp_path: Path) -> None:
    class Slow(fake_models.FakeVision):
        delay_s = 0.0
        slowed = threading.Event()

        def step(self, state: Any, images: Any) -> None:
            if self.delay_s:
                self.slowed.set()
                time.sleep(self.delay_s)
            super().step(state, images)

    vision = Slow()
    pool = fake_pool(lambda: Model(fake_models.FACTS, vision, None))
    node = bench.start(PerceptionNode, pool, frames_path=str(tmp_path / 'frames.db'))
    Feed(bench).send(*image_messages('red', 0, 100))
    vision.delay_s = 0.1  # the evaluation takes seconds
    client = bench.probe.create_client(Predict, 'predict')
    future = client.call_async(Predict.Request(prompts=[''], start=stamp(START_NS)))
    assert vision.slowed.wait(5)
    bench.do(node, node.trigger_deactivate)
    bench.do(node, node.trigger_cleanup)
    eventually(future.done)
    assert future.result().error_code == Predict.Response.INACTIVE


def test_frames_in_a_file_survive_a_restart_of_the_node(bench: Bench, tmp_path: Path) -> None:
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
    ('request_', 'code', 'tokens'),
    [
        (Predict.Request(prompts=['a']), 'BAD_INPUT', ['left, right']),
        (Predict.Request(prompts=['a'], source='up'), 'BAD_INPUT', ["'up'", 'left, right']),
        (Predict.Request(prompts=['a'], source='right'), 'NO_FRAME', ["'right'"]),
        (
            Predict.Request(prompts=['x' * 10_000_000], source='left'),
            'BAD_INPUT',
            ['10,000,000 characters'],
        ),
        (Predict.Request(prompts=['word ' * 65], source='left'), 'BAD_INPUT', ['65 words']),
        (Predict.Request(prompts=['a'] * 20_000, source='left'), 'BAD_INPUT', ['20,000 prompts']),
    ],
)
def test_predict_errors_state_the_reason(
    bench: Bench, request_: Any, code: str, tokens: list[str]
) -> None:
    node = bench.start(
        PerceptionNode, cameras=['left', 'right'], left__topic='l', right__topic='r'
    )
    Feed(bench, 'l').send(*image_messages('red', 0, 2))
    response = bench.call(Predict, 'predict', request_)
    assert not response.success and response.error_code == ErrorCode[code]
    assert all(token in response.message for token in tokens)
    assert len(response.vectors) == 0
    assert node.health.counts['requests refused'] == 1
    good = bench.call(Predict, 'predict', Predict.Request(prompts=['a'], source='left'))
    assert good.success


def test_predict_answers_inactive_before_configure(bench: Bench) -> None:
    node = bench.start(PerceptionNode, up=False)
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['a']))
    assert not response.success and response.error_code == Predict.Response.INACTIVE
    assert 'perception_node' in response.message and 'unconfigured' in response.message
    assert bench.do(node, node.bring_up)
    bench.do(node, node.trigger_deactivate)
    response = bench.call(Predict, 'predict', Predict.Request(prompts=['a']))
    assert response.error_code == Predict.Response.INACTIVE


class SlowVision(fake_models.FakeVision):
    """Vision side that blocks every step until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def step(self, state: Any, images: Sequence[types.Image]) -> None:
        self.entered.set()
        assert self.released.wait(10)
        super().step(state, images)


def test_a_busy_node_keeps_the_newest_image_and_counts_drops(bench: Bench) -> None:
    vision = SlowVision()
    node = bench.start(PerceptionNode, with_vision(vision))
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    publisher = feed.publisher
    publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    for n, message in enumerate(image_messages('blue', 2, 5)):  # 2..6 arrive during a busy step
        publisher.publish(message)
        received = n + 3
        eventually(lambda r=received: camera_count(node, 'frames received') == r)
    vision.released.set()
    order = [round(m.stamp.nanosec / MS / 100) for m in feed.processed.wait(7)]
    assert order == [0, 2, 3, 4, 5, 1, 6]  # dropped ones are acknowledged when they are dropped
    assert node.health.counts['camera: dropped, too slow'] == 4
    assert camera_count(node, 'resets') == 0  # our own drops are no gap
    # The slots of 2..4 are skipped, not filled with earlier frames: one hop is now.
    assert [m.header.stamp.nanosec // MS for m in embeddings.wait(2)] == [100, 600]
    eventually(lambda: node.describe()['skipped slots'] == '3')


def test_a_damaged_image_does_not_displace_the_pending_one(bench: Bench) -> None:
    vision = SlowVision()
    node = bench.start(PerceptionNode, with_vision(vision))
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    feed.publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    for n, message in enumerate([*image_messages('red', 2, 1), broken(3, step=1)], 3):
        feed.publisher.publish(message)
        eventually(lambda n=n: camera_count(node, 'frames received') == n)
    feed.processed.wait(2)  # the damaged one is done with at once
    vision.released.set()
    feed.processed.wait(4)
    feed.send(*image_messages('red', 4, 1))
    assert [m.header.stamp.nanosec // MS for m in embeddings.wait(2)] == [100, 200]
    assert node.health.counts['camera: dropped, too slow'] == 0
    assert node.health.counts['camera: damaged images'] == 1


def test_a_damaged_image_is_not_counted_as_dropped(bench: Bench) -> None:
    vision = RecordingVision()
    node = bench.start(PerceptionNode, with_vision(vision), camera__transport='compressed')
    feed = Feed(bench, 'image/compressed', CompressedImage)
    red, blue = (
        cv2.imencode('.png', fake_models.solid_image(color)[..., ::-1])[1].tobytes()
        for color in ('red', 'blue')
    )
    for n, data in enumerate([red, red, b'\xff\xd8 its ends are those of a JPEG \xff\xd9', blue]):
        header = Header(stamp=stamp(START_NS + n * 100 * MS))
        feed.send(CompressedImage(header=header, format='jpeg', data=data))
    eventually(lambda: len(vision.images) == 4)
    assert camera_count(node, 'rejected images') == 1
    # Its slot is filled by the frame before it, as `vljepa annotate` does.
    assert [image[0, 0].tolist() for image in vision.images[2:]] == [[255, 0, 0], [0, 0, 255]]


def test_predict_requests_beyond_the_limit_are_busy(bench: Bench) -> None:
    vision = SlowVision()
    bench.start(PerceptionNode, with_vision(vision), max_waiting=1)
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 1))
    feed.publisher.publish(image_messages('red', 1, 1)[0])
    assert vision.entered.wait(5)
    client = bench.probe.create_client(Predict, 'predict')
    assert client.wait_for_service(5)
    requests = [client.call_async(Predict.Request(prompts=['a'])) for _ in range(2)]
    eventually(lambda: any(request.done() for request in requests))
    [refused], [pending] = ([r for r in requests if r.done() is done] for done in (True, False))
    assert not refused.result().success
    assert refused.result().error_code == Predict.Response.BUSY
    vision.released.set()
    eventually(pending.done)
    assert pending.result().success


class FaultyVision(fake_models.FakeVision):
    """Vision side that fails on green."""

    def step(self, state: Any, images: Sequence[types.Image]) -> None:
        if images[-1][0, 0].tolist() == [0, 255, 0]:
            raise RuntimeError('out of memory')
        super().step(state, images)


def test_an_exception_in_the_model_thread_is_reported_and_the_node_continues(bench: Bench) -> None:
    node = bench.start(PerceptionNode, with_vision(FaultyVision()))
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(
        *image_messages('red', 0, 2), *image_messages('green', 2, 2), *image_messages('blue', 4, 2)
    )
    assert [m.header.stamp.nanosec // MS for m in embeddings.wait(2)] == [100, 500]
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


@contextmanager
def blocked(node: PerceptionNode) -> Iterator[None]:
    """Block the node's executor, so that its image queue of one keeps the newest frame only."""
    entered, released = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        released.wait(5)

    node.executor.create_task(block)
    assert entered.wait(5)
    yield
    released.set()


def test_lost_frames_lower_the_share_of_frames_received(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    delivered = bench.collect(Image, 'image')
    publisher = bench.publisher(Image, 'image', to=2)
    publisher.publish(image_messages('red', 0, 1)[0])
    eventually(lambda: camera_count(node, 'frames received') == 1)
    with blocked(node):
        for message in image_messages('red', 1, 9):
            publisher.publish(message)
        delivered.wait(10)
    eventually(lambda: camera_count(node, 'frames received') == 2)
    assert camera_count(node, 'frames lost before reception') == 8
    assert node.describe()['camera: share of frames received'] == '0.200'


def test_many_lost_frames_are_one_warning_with_the_remedy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.runtime.frame_loss'], 'SPAN_S', 2.0)
    node = bench.start(PerceptionNode, up=False)
    logged: list[str] = []
    node.get_logger().warning = logged.append
    assert bench.do(node, node.bring_up)
    delivered = bench.collect(Image, 'image')
    publisher = bench.publisher(Image, 'image', to=2)
    numbers = itertools.count()

    def warned() -> bool:
        with blocked(node):
            for _ in range(10):
                number = next(numbers)
                publisher.publish(image_messages('red', number, 1)[0])
            delivered.wait(number + 1)
        return any('lost' in line for line in logged)

    eventually(warned, 20)
    status = bench.status(node, lambda s: 'FASTDDS_DEFAULT_PROFILES_FILE' in s.message)
    assert status.level == b'\x01'
    [line] = [line for line in logged if 'lost' in line]
    for word in ('image_transport:=compressed', 'qos_overrides', f'{bench.namespace}/image'):
        assert word in line


def test_frames_of_two_publishers_are_not_counted_as_lost(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 6))
    assert camera_count(node, 'frames lost before reception') == 0
    second = Feed(bench)
    for n in range(6, 12, 2):  # the numbers of one publisher and of the other take turns
        second.send(*image_messages('red', n, 1))
        feed.send(*image_messages('red', n + 1, 1))
    bench.probe.destroy_publisher(feed.publisher)
    eventually(lambda: node.count_publishers('image') == 1)
    bench.status(node, lambda s: 'share' not in s.message)
    second.send(*image_messages('red', 12, 2))
    assert camera_count(node, 'frames lost before reception') == 0
    assert node.describe()['camera: share of frames received'] == '1.000'


def test_a_missing_camera_is_logged_as_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.image_topic'], 'WAITING_S', 0.5)
    node = bench.start(PerceptionNode, up=False, camera__topic='/lens/image_raw')
    logged: list[str] = []
    node.get_logger().warning = logged.append
    assert bench.do(node, node.bring_up)
    eventually(lambda: len(logged) >= 2)
    text = logged[0]
    assert '/lens/image_raw' in text and 'no publisher' in text and logged[1] == text
    assert bench.status(node, lambda s: s.level == b'\x01').message == text
    publisher = bench.publisher(Image, '/lens/image_raw')
    eventually(lambda: '1 publisher' in logged[-1])
    processed = bench.collect(Header, 'frame_processed', LATCHED)
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.image_topic'], 'WAITING_S', 60.0)
    publisher.publish(image_messages('red', 0, 1)[0])
    processed.wait(1)
    assert bench.status(node, lambda s: s.level == b'\x00').message == 'active'


def test_two_publishers_on_one_topic_are_a_warning(bench: Bench) -> None:
    node = bench.start(PerceptionNode)
    bench.publisher(Image, 'image')
    second = bench.publisher(Image, 'image')
    status = bench.status(node, lambda s: s.level == b'\x01')
    assert '2 publishers' in status.message and f'{bench.namespace}/image' in status.message
    bench.probe.destroy_publisher(second)
    bench.status(node, lambda s: 'share' not in s.message)


def test_images_use_sensor_qos_which_parameters_override(bench: Bench) -> None:
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
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    feed = Feed(bench)
    feed.send(*image_messages('red', 0, 2))
    bench.do(node, node.trigger_deactivate)
    for message in image_messages('blue', 2, 4):
        feed.publisher.publish(message)
    bench.do(node, node.trigger_activate)
    bench.wait_for_match(feed.publisher)
    feed.send(*image_messages('red', 6, 4))
    stamps_ms = [m.stamp.nanosec // MS for m in feed.processed]
    assert stamps_ms == [0, 100, 600, 700, 800, 900]
    assert embeddings.wait(3)[0].header.stamp.nanosec // MS == 100
    assert all(np.allclose(m.vector, blended('red'), atol=1e-6) for m in embeddings)


# Bad input: the message, the counter, and that it does not change the embeddings of valid images.


class HistoryVision(fake_models.FakeVision):
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


def published_vectors(bench: Bench, *messages: Image) -> tuple[Any, list[Any]]:
    node = bench.start(PerceptionNode, with_vision(HistoryVision()))
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    Feed(bench).send(*messages)
    embeddings.wait(int(node.describe()['hops']))
    return node, [list(m.vector) for m in embeddings]


GOOD = [*image_messages('red', 0, 3), *image_messages('blue', 4, 4)]


@pytest.fixture(scope='module')
def expected(ros: None) -> list[Any]:
    """Return the embeddings of the valid images alone."""
    bench = Bench()
    _, found = published_vectors(bench, *GOOD)
    bench.close()
    return found


@pytest.mark.parametrize(
    ('bad', 'message', 'counter'),
    [
        (broken(3, encoding='rgb9'), "unknown encoding 'rgb9'", 'damaged images'),
        (broken(3, encoding=''), "unknown encoding ''", 'damaged images'),
        (broken(3, width=0), 'image of 0x24 pixels', 'damaged images'),
        (broken(3, width=4_000_000_000), 'image of 4000000000x24 pixels', 'damaged images'),
        (broken(3, width=33), 'step (96 bytes) is smaller than a row of 33', 'damaged images'),
        (broken(3, step=1), 'step (1 bytes) is smaller', 'damaged images'),
        (broken(3, height=25), 'but height (25) x step (96) is 2400', 'damaged images'),
        (broken(3, data=b''), 'data has 0 bytes', 'damaged images'),
        (broken(2), 'stamp repeats at ', 'irregular stamps'),
        (broken(1), 'stamp goes back by 0.100 s', 'irregular stamps'),
    ],
)
def test_only_the_invalid_image_is_dropped(
    bench: Bench, expected: list[Any], bad: Image, message: str, counter: str
) -> None:
    node, found = published_vectors(bench, *GOOD[:3], bad, *GOOD[3:])
    assert node.health.counts[f'camera: {counter}'] == 1
    assert message in values_of(bench.status(node, lambda s: True))['last problem']
    assert found == expected
    assert len(found) == 4
    assert np.isfinite(found).all()


@pytest.mark.parametrize(('shift_ms', 'where'), [(60_000, 'forward'), (-60_000, 'back')])
def test_stamp_jumps_reset_the_camera(bench: Bench, shift_ms: int, where: str) -> None:
    later = [image_message('blue', START_NS + (shift_ms + n * 100) * MS) for n in range(4)]
    node, found = published_vectors(bench, *GOOD[:3], *later)
    assert node.health.counts['camera: irregular stamps'] == 1
    assert camera_count(node, 'resets') == 1
    problem = values_of(bench.status(node, lambda s: True))['last problem']
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
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
    node.get_logger().warning = logged.append
    began_s = time.monotonic()
    Feed(bench).send(*messages)
    windows = 1 + (time.monotonic() - began_s) // LOG_EVERY_S
    values = values_of(bench.status(node, lambda s: True))
    assert values['camera: size changes'] == values['camera: image size changed'] == '18'
    assert 1 <= sum('image size changed from' in line for line in logged) <= windows
    assert all(np.allclose(m.vector, blended('red'), atol=1e-6) for m in embeddings.wait(10))


def test_only_a_truncated_jpeg_is_dropped(bench: Bench) -> None:
    node = bench.start(
        PerceptionNode, with_vision(HistoryVision()), camera__transport='compressed'
    )
    embeddings = bench.collect(SemanticEmbedding, 'semantic_embedding')
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
    assert camera_count(node, 'rejected images') == 3
    assert node.health.counts['camera: damaged images'] == 3
    problem = values_of(bench.status(node, lambda s: True))['last problem']
    assert 'camera' in problem and "'jpeg'" in problem
    assert node.describe()['hops'] == '4'
    assert np.allclose(
        [m.vector for m in embeddings.wait(4)],
        [fake_models.direction(repr(['red'] * n) + PROMPT) for n in range(1, 5)],
    )
