# SPDX-License-Identifier: Apache-2.0
"""Video topics of perception_node: key frames, lost and damaged packets, missing packages."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import bags, videos
from helpers.node_harness import LATCHED, MS, RELIABLE, Bench, eventually, values_of
from helpers.videos import Encoded
from std_msgs.msg import Header

from vljepa_ros.client.bag_player import Player, PlayOptions
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import FFMPEG, FOXGLOVE
from vljepa_ros.nodes import conversions
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.runtime.health import Level
from vljepa_ros.sources.bag import Bag

from .test_perception import RecordingVision, with_vision

pytestmark = pytest.mark.usefixtures('video_interfaces')


class Stream:
    """perception_node with one video camera, and a publisher of packets."""

    def __init__(self, bench: Bench, kind: str = FOXGLOVE, codec: str = 'h264') -> None:
        self.kind, self.codec, self.vision = kind, codec, RecordingVision()
        transport = 'ffmpeg' if kind == FFMPEG else 'foxglove'
        self.logged: list[str] = []
        self.node = bench.start(
            PerceptionNode,
            with_vision(self.vision),
            camera__topic='lens',
            camera__transport=transport,
        )
        self.node.get_logger().info = self.logged.append
        self.processed = bench.collect(Header, 'frame_processed', LATCHED)
        self.publisher = bench.publisher(
            conversions.image_type(transport), f'lens/{transport}', RELIABLE
        )

    def send(self, *packets: Encoded) -> None:
        """Publish packets one by one, each after the previous one was acknowledged."""
        for packet in packets:
            count = len(self.processed)
            self.publish(packet)
            self.processed.wait(count + 1)

    def publish(self, packet: Encoded) -> None:
        """Publish a packet with the stamp of its image."""
        stamp_ns = bags.START_NS + packet.number * 100 * MS
        message = videos.message(self.kind, stamp_ns, packet.data, self.codec)
        self.publisher.publish(bytes(bags.STORE.serialize_cdr(message, self.kind)))

    @property
    def shown(self) -> list[int]:
        """Numbers of the images that the model encoded, each once: gaps repeat an image."""
        found = videos.numbers(self.vision.images)
        return [number for i, number in enumerate(found) if i == 0 or number != found[i - 1]]

    def count(self, name: str) -> int:
        """Return a counter of the camera from the diagnostics."""
        return int(self.node.describe()[f'camera: {name}'])


@pytest.mark.parametrize('kind', [FFMPEG, FOXGLOVE])
@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_packets_before_a_key_frame_are_skipped_and_the_start_is_logged(
    bench: Bench, kind: str, codec: str
) -> None:
    stream = Stream(bench, kind, codec)
    packets = videos.encode(videos.gray(12), codec, key_every=6)
    stream.send(*packets[3:6])
    waiting = bench.status(stream.node, lambda s: 'key frame' in s.message)
    assert waiting.level == bytes([Level.WARN]) and stream.shown == []
    stream.send(*packets[6:])
    assert stream.shown == [6, 7, 8, 9, 10, 11]
    [start] = [line for line in stream.logged if 'decoding starts' in line]
    assert f'{(bags.START_NS + 600 * MS) / 1e9:.3f}' in start and '3 skipped' in start
    assert (stream.count('rejected images'), stream.count('resets')) == (3, 0)
    bench.status(stream.node, lambda s: 'key frame' not in s.message)


def test_reordered_images_are_processed_in_the_order_of_their_stamps(bench: Bench) -> None:
    stream = Stream(bench, FFMPEG)
    stream.send(*videos.encode(videos.gray(20), reordered=True))
    assert len(stream.shown) >= 14 and stream.shown == list(range(len(stream.shown)))
    assert stream.count('dropped: stamp went back') == 0


def test_a_damaged_packet_is_reported_and_the_video_continues_at_a_key_frame(
    bench: Bench,
) -> None:
    stream = Stream(bench)
    packets = videos.encode(videos.gray(12), key_every=6)
    stream.send(*packets[:2], packets[2]._replace(data=b'\0\0\0\1\x41' + b'\xff' * 8))
    damaged = bench.status(
        stream.node, lambda s: 'H.264 packet of 13 bytes' in values_of(s).get('last problem', '')
    )
    assert values_of(damaged)['camera: rejected images'] == '1'
    stream.send(*packets[3:])
    assert stream.shown == [0, 1, 6, 7, 8, 9, 10, 11]


def test_a_packet_of_another_format_is_named(bench: Bench) -> None:
    stream = Stream(bench, codec='av1')
    stream.send(*videos.encode(videos.gray(1)))
    bench.status(
        stream.node,
        lambda s: "format 'av1' is not supported" in values_of(s).get('last problem', ''),
    )


def test_the_size_and_the_codec_may_change_while_the_node_runs(bench: Bench) -> None:
    stream = Stream(bench)
    stream.send(*videos.encode(videos.gray(2)))
    larger = [p._replace(number=p.number + 2) for p in videos.encode(videos.gray(2, 96, 128))]
    stream.send(*larger)
    assert stream.count('size changes') == 1
    stream.codec = 'hevc'
    stream.send(*(p._replace(number=p.number + 4) for p in videos.encode(videos.gray(2), 'hevc')))
    assert stream.shown == [0, 1, 0, 1, 0, 1]
    assert stream.count('rejected images') == 0


def test_a_repeated_packet_is_acknowledged_and_not_decoded_again(bench: Bench) -> None:
    stream = Stream(bench)
    first, second, third, fourth = videos.encode(videos.gray(4))
    stream.send(first, second, second, third, fourth)
    assert stream.shown == [0, 1, 2, 3]
    assert stream.count('dropped: stamp repeated') == 1


def test_after_a_lost_packet_the_video_continues_at_a_key_frame(bench: Bench) -> None:
    stream = Stream(bench)
    packets = videos.encode(videos.gray(14), key_every=5)
    stream.send(*packets[:2])
    topic: Any = stream.node._topics[0]
    topic._sequence -= 3  # as if the middleware had lost three packets
    stream.send(*packets[2:8])
    assert stream.shown == [0, 1, 5, 6, 7]
    assert stream.count('frames lost before reception') == 3
    assert stream.node.health.values()['camera: lost packets'] == '1'


def test_packets_are_dropped_if_the_decoder_is_too_slow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.video_topic'], 'MAX_PACKETS', 3)
    stream = Stream(bench)
    packets = videos.encode(videos.gray(12), key_every=6)
    topic: Any = stream.node._topics[0]
    busy = threading.Event()
    topic._thread.submit(busy.wait, 30)
    for packet in packets[:6]:
        stream.publish(packet)
    eventually(lambda: topic._thread._work_queue.qsize() == 6)
    busy.set()
    stream.processed.wait(6)
    stream.send(*packets[6:])
    assert not {3, 4, 5} & set(stream.shown) and {6, 7, 8, 9} <= set(stream.shown)
    assert stream.shown == sorted(stream.shown)
    assert stream.node.health.values()['camera: lost packets'] == '3'
    assert stream.count('resets') == 0


@pytest.mark.parametrize('reordered', [False, True])
def test_a_played_bag_shows_every_image_of_the_video(
    bench: Bench, tmp_path: Path, reordered: bool
) -> None:
    stream = Stream(bench, FFMPEG)
    bench.probe.destroy_publisher(stream.publisher)
    packets = videos.encode(videos.gray(20), reordered=reordered)
    path = bags.write(tmp_path / 'bag', videos.rows('/any/stream', FFMPEG, packets))
    options = PlayOptions(
        namespace=bench.namespace, remap={'/any/stream': f'{bench.namespace}/lens/ffmpeg'}
    )
    player = Player(bench.probe, time.sleep, Bag(path), options, print)
    assert len(list(player.run())) == 20
    held = 20 - len(stream.shown)  # by the decoder, which waits for the end of the video
    assert stream.shown == list(range(20 - held)) and held <= (4 if reordered else 0)


def test_regions_of_a_video_are_decoded_once(bench: Bench) -> None:
    vision = RecordingVision()
    node = bench.start(
        PerceptionNode,
        with_vision(vision),
        cameras=['left', 'right'],
        left__topic='lens',
        right__topic='lens',
        left__crop=[0.0, 0.0, 0.5, 1.0],
        right__crop=[0.5, 0.0, 0.5, 1.0],
        image_transport='ffmpeg',
    )
    [topic] = node._topics
    processed = bench.collect(Header, 'frame_processed', LATCHED)
    kind = conversions.image_type('ffmpeg')
    publisher = bench.publisher(kind, 'lens/ffmpeg', RELIABLE)
    sides = np.zeros((48, 64, 3), np.uint8)
    sides[:, 32:] = 200
    for number, packet in enumerate(videos.encode([sides] * 2)):
        message = videos.message(FFMPEG, bags.START_NS + number * 100 * MS, packet.data)
        publisher.publish(bytes(bags.STORE.serialize_cdr(message, FFMPEG)))
        processed.wait(2 * number + 2)
    eventually(lambda: len(vision.images) == 4)
    assert topic.stamp_filter.received == 2
    assert sorted(round(float(image.mean())) // 50 for image in vision.images) == [0, 0, 4, 4]


def test_deactivating_drops_packets_and_activating_waits_for_a_key_frame(bench: Bench) -> None:
    stream = Stream(bench)
    packets = videos.encode(videos.gray(8), key_every=4)
    stream.send(*packets[:2])
    bench.do(stream.node, stream.node.trigger_deactivate)
    bench.do(stream.node, stream.node.trigger_activate)
    bench.wait_for_match(stream.publisher)
    stream.send(*packets[2:])
    assert stream.shown == [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ('missing', 'remedy'), [('foxglove_msgs.msg', 'foxglove-msgs'), ('av', 'pip install av')]
)
def test_a_missing_package_is_named_at_configure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, missing: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    node = bench.start(PerceptionNode, up=False, camera__transport='foxglove')
    assert not bench.do(node, node.bring_up)
    assert isinstance(node.transition_error, InputError)
    text = str(node.transition_error)
    assert "transport 'foxglove'" in text and remedy in text
