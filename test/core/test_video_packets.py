# SPDX-License-Identifier: Apache-2.0
"""Key frames and checks of video packets, against the flags of FFmpeg's encoders."""

from __future__ import annotations

import pytest
from helpers import videos

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.video_packets import VideoPacket, codec_of, video_packet


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
@pytest.mark.parametrize('reordered', [False, True])
def test_key_frames_are_those_that_the_encoder_marks(codec: str, reordered: bool) -> None:
    packets = videos.encode(videos.gray(20), codec, key_every=7, reordered=reordered)
    marked = [packet.is_key for packet in packets]
    assert [VideoPacket(0, codec, packet.data).is_key_frame for packet in packets] == marked
    assert marked.count(True) == 3


@pytest.mark.parametrize(
    ('format', 'codec'),
    [
        ('h264', 'h264'),
        ('libx264', 'h264'),
        ('h264_nvenc', 'h264'),
        ('h264;yuv420p;bgr8;bgr8', 'h264'),
        ('h265', 'hevc'),
        ('hevc', 'hevc'),
        ('hevc_vaapi', 'hevc'),
        ('H.265', 'hevc'),
    ],
)
def test_codecs_are_recognized_by_the_names_of_codecs_and_encoders(
    format: str, codec: str
) -> None:
    assert codec_of(format) == codec


@pytest.mark.parametrize(
    ('format', 'data', 'message'),
    [
        ('av1', b'\0\0\1\x65', "video format 'av1' is not supported"),
        ('', b'\0\0\1\x65', "video format '' is not supported"),
        ('h264', b'', "packet 'h264' contains no data"),
        ('h264', b'\0\0\0\x20\x65', 'does not begin with a start code'),
    ],
)
def test_damaged_packets_are_refused_in_one_line(format: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        video_packet(0, format, data)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
@pytest.mark.parametrize('data', [b'\0\0\1', b'\0\0\0\1', b'\0\0\1\0\0\1\0\0\1'])
def test_a_packet_without_an_image_is_no_key_frame(codec: str, data: bytes) -> None:
    assert not VideoPacket(0, codec, data).is_key_frame
