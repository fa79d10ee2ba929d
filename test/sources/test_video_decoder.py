# SPDX-License-Identifier: Apache-2.0
"""Video packets of known images, decoded in the order in which they are sent."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import videos
from helpers.videos import Encoded

from vljepa_ros.core.errors import InputError, NoKeyFrameError
from vljepa_ros.core.video_packets import VideoPacket
from vljepa_ros.sources.video_decoder import DecodedFrame, VideoDecoder


def packet(encoded: Encoded, codec: str = 'h264') -> VideoPacket:
    """Return a packet whose stamp is the number of its image."""
    return VideoPacket(encoded.number, codec, encoded.data)


def shown(frames: list[DecodedFrame]) -> list[tuple[int, int]]:
    """Return the stamp and the number of each image."""
    return [(f.stamp_ns, *videos.numbers([f.image()])) for f in frames]


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_every_packet_is_decoded_at_once_to_its_image(codec: str) -> None:
    images = videos.gray(12)
    decoder = VideoDecoder()
    for number, encoded in enumerate(videos.encode(images, codec)):
        [frame] = decoder.push(packet(encoded, codec))
        assert frame.stamp_ns == number
        assert frame.image().shape == (48, 64, 3)
        assert np.abs(frame.image().astype(int) - images[number]).max() <= 4
    assert decoder.flush() == []


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_reordered_images_keep_their_stamps(codec: str) -> None:
    packets = videos.encode(videos.gray(20), codec, reordered=True)
    assert [p.number for p in packets] != sorted(p.number for p in packets)
    decoder = VideoDecoder()
    frames = [frame for p in packets for frame in decoder.push(packet(p, codec))]
    assert shown(frames + decoder.flush()) == [(number, number) for number in range(20)]


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_decoding_starts_at_a_key_frame(codec: str) -> None:
    packets = videos.encode(videos.gray(12), codec, key_every=5)
    decoder = VideoDecoder()
    for encoded in packets[2:5]:
        with pytest.raises(NoKeyFrameError, match='starts at a key frame'):
            decoder.push(packet(encoded, codec))
    assert (decoder.skipped, decoder.is_decoding) == (3, False)
    frames = [frame for p in packets[5:] for frame in decoder.push(packet(p, codec))]
    assert shown(frames) == [(number, number) for number in range(5, 12)]
    assert decoder.is_decoding


def test_after_lost_packets_decoding_continues_at_the_next_key_frame() -> None:
    packets = videos.encode(videos.gray(12), key_every=5)
    decoder = VideoDecoder()
    frames = [frame for p in packets[:2] for frame in decoder.push(packet(p))]
    decoder.interrupt()
    with pytest.raises(NoKeyFrameError):
        decoder.push(packet(packets[4]))
    frames += [frame for p in packets[5:7] for frame in decoder.push(packet(p))]
    assert shown(frames) == [(0, 0), (1, 1), (5, 5), (6, 6)]


def test_a_damaged_packet_is_named_and_spoils_no_later_image() -> None:
    packets = videos.encode(videos.gray(12), key_every=5)
    decoder = VideoDecoder()
    decoder.push(packet(packets[0]))
    damaged = packets[1]._replace(data=packets[1].data[:6] + b'\xff' * 6)
    with pytest.raises(InputError, match=r'H\.264 packet of 12 bytes cannot be decoded'):
        decoder.push(packet(damaged))
    with pytest.raises(NoKeyFrameError):
        decoder.push(packet(packets[2]))
    assert shown(decoder.push(packet(packets[5]))) == [(5, 5)]


def test_another_codec_begins_at_its_key_frame() -> None:
    decoder = VideoDecoder()
    decoder.push(packet(videos.encode(videos.gray(2))[0]))
    other = videos.encode(videos.gray(4), 'hevc')
    with pytest.raises(NoKeyFrameError, match=r'H\.265'):
        decoder.push(packet(other[1], 'hevc'))
    frames = [frame for p in other for frame in decoder.push(packet(p, 'hevc'))]
    assert shown(frames) == [(number, number) for number in range(4)]


def test_the_size_may_change_at_a_key_frame() -> None:
    decoder = VideoDecoder()
    small = videos.encode(videos.gray(2))
    large = videos.encode(videos.gray(2, 96, 128))
    frames = [frame for p in small + large for frame in decoder.push(packet(p))]
    assert [frame.image().shape[:2] for frame in frames] == [(48, 64)] * 2 + [(96, 128)] * 2


def test_parameters_may_be_sent_before_their_key_frame() -> None:
    first, second = videos.encode(videos.gray(2))
    at = first.data.index(b'\0\0\1\x65')  # the image of the key frame
    decoder = VideoDecoder()
    for _ in range(3):
        assert decoder.push(VideoPacket(5, 'h264', first.data[:at])) == []
    assert decoder.skipped == 0
    frames = decoder.push(VideoPacket(7, 'h264', first.data[at:])) + decoder.push(packet(second))
    assert shown(frames) == [(7, 0), (1, 1)]
