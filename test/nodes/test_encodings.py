# SPDX-License-Identifier: Apache-2.0
"""The same bytes give the same vectors with ROS (perception_node) and without (a bag)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import bags, videos
from helpers.node_harness import LATCHED, Bench, fake_pool
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header
from vljepa_ros.msg import SemanticEmbedding

from vljepa_ros.core.images import ENCODINGS, FFMPEG, FOXGLOVE, TRANSPORTS, WIDE
from vljepa_ros.core.types import Embedding, Image
from vljepa_ros.nodes import conversions
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import open_source

WIDTH, HEIGHT, COUNT = 64, 48, 9
RNG = np.random.default_rng(0)
VIDEOS = [(codec, kind) for codec in videos.ENCODERS for kind in (FFMPEG, FOXGLOVE)]


def scenes() -> list[Image]:
    """Return different smooth images."""
    small = RNG.integers(0, 256, (COUNT, 6, 8, 3), dtype=np.uint8)
    return [
        np.asarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
        for image in small
    ]


def raw(encoding: str) -> list[Any]:
    """Return messages with any bytes, and with row padding."""
    form = ENCODINGS[WIDE.get(encoding, encoding)]
    step = WIDTH * form.size * (2 if encoding in WIDE else 1) + 4
    return [
        bags.TYPES['sensor_msgs/msg/Image'](
            header=bags.header(stamp_ns),
            height=HEIGHT,
            width=WIDTH,
            encoding=encoding,
            is_bigendian=number % 2,
            step=step,
            data=RNG.integers(0, 256, step * HEIGHT * form.rows // 2, dtype=np.uint8),
        )
        for number, stamp_ns in enumerate(bags.stamps(COUNT))
    ]


def without_ros(path: Path, model: Any) -> list[Embedding]:
    """Return the embeddings of `vljepa embed` and the other commands."""
    pipeline, found = Pipeline(model), []
    for frame in open_source(path):
        pipeline.push(frame)
        found += pipeline.last_embeddings
    return found


def with_ros(bench: Bench, messages: list[Any], transport: str, model: Any) -> list[Embedding]:
    """Return the embeddings of perception_node after every message was processed."""
    kind = TRANSPORTS[transport]
    pool = fake_pool(lambda: model)
    bench.start(PerceptionNode, pool, camera__topic='lens', camera__transport=transport)
    suffix = '' if transport == 'raw' else f'/{transport}'
    found = bench.collect(SemanticEmbedding, 'semantic_embedding')
    processed = bench.collect(Header, 'frame_processed', LATCHED)
    profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    publisher = bench.publisher(conversions.image_type(transport), f'lens{suffix}', profile)
    for number, message in enumerate(messages):
        publisher.publish(bytes(bags.STORE.serialize_cdr(message, kind)))
        processed.wait(number + 1)
    return [conversions.from_embedding_message(m) for m in found.wait(COUNT // 2)]


def compare(bench: Bench, tmp_path: Path, messages: list[Any], transport: str, model: Any) -> None:
    topic = '/any/name' if transport != 'raw' else '/lens'
    rows = [(topic, t, m) for t, m in zip(bags.stamps(COUNT), messages, strict=True)]
    expected = without_ros(bags.write(tmp_path / 'bag', rows), model)
    assert len({e.vector.tobytes() for e in expected}) == COUNT // 2
    found = with_ros(bench, messages, transport, model)
    assert [e.stamp_ns for e in found] == [e.stamp_ns for e in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.vector, theirs.vector)


@pytest.mark.parametrize('encoding', [*ENCODINGS, *WIDE])
def test_raw_images_give_the_same_vectors(
    bench: Bench, tmp_path: Path, tiny: Any, encoding: str
) -> None:
    compare(bench, tmp_path, raw(encoding), 'raw', tiny)


@pytest.mark.parametrize('format', ['jpeg', 'png'])
def test_compressed_images_give_the_same_vectors(
    bench: Bench, tmp_path: Path, tiny: Any, format: str
) -> None:
    messages = []
    for stamp_ns, image in zip(bags.stamps(COUNT), scenes(), strict=True):
        data = np.asarray(cv2.imencode(f'.{format}', image)[1], np.uint8).ravel()
        message = bags.compressed(stamp_ns, data)
        message.format = f'bgr8; {format} compressed bgr8'
        messages.append(message)
    compare(bench, tmp_path, messages, 'compressed', tiny)


@pytest.mark.usefixtures('video_interfaces')
@pytest.mark.parametrize(('codec', 'kind'), VIDEOS)
def test_videos_give_the_same_vectors(
    bench: Bench, tmp_path: Path, tiny: Any, codec: str, kind: str
) -> None:
    packets = videos.encode(scenes(), codec)
    messages = [message for _, _, message in videos.rows('', kind, packets, codec)]
    transport = 'ffmpeg' if kind == FFMPEG else 'foxglove'
    compare(bench, tmp_path, messages, transport, tiny)
