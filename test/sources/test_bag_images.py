# SPDX-License-Identifier: Apache-2.0
"""Videos in bags: topics are found by type, and images have the stamps of their packets."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import bags, videos
from rosbags.rosbag2 import StoragePlugin

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import FFMPEG, FOXGLOVE
from vljepa_ros.core.types import Frame
from vljepa_ros.sources import Damaged, open_source

TOPIC = '/lens/stream'  # a name that no image transport uses


def frames_of(path: Path) -> list[Frame]:
    return list(open_source(path))


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('kind', [FFMPEG, FOXGLOVE])
@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_videos_are_found_by_type_and_decoded(
    tmp_path: Path, plugin: StoragePlugin, kind: str, codec: str
) -> None:
    images = videos.gray(12)
    rows = videos.rows(TOPIC, kind, videos.encode(images, codec), codec)
    source = open_source(bags.write(tmp_path / 'bag', rows, plugin))
    assert (source.cameras, source.total, source.start_ns) == (('stream',), 12, bags.START_NS)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == bags.stamps(12)
    for frame, image in zip(frames, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).max() <= 4


def test_reordered_images_are_sorted_and_complete(tmp_path: Path) -> None:
    rows = videos.rows(TOPIC, FFMPEG, videos.encode(videos.gray(20), reordered=True))
    frames = frames_of(bags.write(tmp_path / 'bag', rows))
    assert [frame.stamp_ns for frame in frames] == bags.stamps(20)
    assert videos.numbers(frame.image for frame in frames) == list(range(20))


def test_packets_before_the_first_key_frame_are_reported(tmp_path: Path) -> None:
    rows = videos.rows(TOPIC, FOXGLOVE, videos.encode(videos.gray(12), key_every=5))[2:]
    source = open_source(bags.write(tmp_path / 'bag', rows))
    items = list(source.items())
    assert source.start_ns == bags.START_NS + 5 * bags.PERIOD_NS
    damaged = [item for item in items if isinstance(item, Damaged)]
    assert [item.stamp_ns for item in damaged] == bags.stamps(5)[2:]
    assert {item.message for item in damaged} == {
        'decoding of the H.264 video starts at a key frame: packet skipped'
    }
    assert videos.numbers(i.image for i in items if isinstance(i, Frame)) == list(range(5, 12))


def test_a_video_without_a_key_frame_is_refused_in_one_line(tmp_path: Path) -> None:
    rows = videos.rows(TOPIC, FOXGLOVE, videos.encode(videos.gray(6)))[1:]
    with pytest.raises(InputError, match=r'no image can be read .*starts at a key frame'):
        open_source(bags.write(tmp_path / 'bag', rows))


def test_two_videos_are_decoded_independently(tmp_path: Path) -> None:
    left = videos.rows('/left/image_raw/ffmpeg', FFMPEG, videos.encode(videos.gray(6)))
    right = videos.rows(
        '/right/image_raw/foxglove',
        FOXGLOVE,
        videos.encode(videos.gray(6, 96, 96), 'hevc'),
        'hevc',
    )
    rows = [row for pair in zip(left, right, strict=True) for row in pair]
    frames = frames_of(bags.write(tmp_path / 'bag', rows))
    for name, height in (('left', 48), ('right', 96)):
        own = [frame.image for frame in frames if frame.source == name]
        assert videos.numbers(own) == list(range(6))
        assert {image.shape[0] for image in own} == {height}


def test_of_several_transports_of_a_camera_the_least_compressed_is_read(tmp_path: Path) -> None:
    packets = videos.encode(videos.gray(2))
    rows = [
        *videos.rows('/a/image/foxglove', FOXGLOVE, packets),
        *videos.rows('/a/image/ffmpeg', FFMPEG, packets),
        *bags.colors(['red'], 2, '/a/image/compressed'),
        *videos.rows('/b/image/foxglove', FOXGLOVE, packets),
        *videos.rows('/b/image/ffmpeg', FFMPEG, packets),
        *((f'/c/{n}', log_ns, m) for n in 'xy' for _, log_ns, m in bags.colors(['blue'], 2)),
    ]
    folder = bags.write(tmp_path / 'bag', rows)
    source = open_source(folder)
    assert {topic.name for topic in source.topics} == {  # type: ignore[attr-defined]
        '/a/image/compressed',
        '/b/image/ffmpeg',
        '/c/x',
        '/c/y',
    }
    chosen = open_source(folder, ['/a/image/foxglove'])
    assert chosen.cameras == ('a',) and videos.numbers(f.image for f in chosen) == [0, 1]


def test_a_missing_video_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = videos.rows(TOPIC, FFMPEG, videos.encode(videos.gray(2)))
    folder = bags.write(tmp_path / 'bag', rows)
    monkeypatch.setitem(sys.modules, 'av', None)
    monkeypatch.delitem(sys.modules, 'vljepa_ros.sources.video_decoder', raising=False)
    with pytest.raises(InputError, match='pip install av'):
        open_source(folder)


def test_damaged_packets_are_reported_and_later_images_are_read(tmp_path: Path) -> None:
    rows = videos.rows(TOPIC, FFMPEG, videos.encode(videos.gray(9), key_every=4))
    topic, log_ns, _ = rows[1]
    rows[1] = topic, log_ns, videos.message(FFMPEG, log_ns, b'\0\0\0\1\x41' + b'\xff' * 8)
    rows[6] = topic, rows[6][1], videos.message(FFMPEG, rows[6][1], b'\0\0\1\x41', 'av1')
    items = list(open_source(bags.write(tmp_path / 'bag', rows)).items())
    assert [
        i.message for i in items if isinstance(i, Damaged) and 'starts at' not in i.message
    ] == [
        'H.264 packet of 13 bytes cannot be decoded: Invalid data found when processing input; '
        'continuing at the next key frame',
        "video format 'av1' is not supported (known: h264, hevc)",
    ]
    assert videos.numbers(i.image for i in items if isinstance(i, Frame)) == [0, 4, 5, 8]
