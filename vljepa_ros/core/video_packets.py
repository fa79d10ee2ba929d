# SPDX-License-Identifier: Apache-2.0
"""Packets of encoded video (H.264, H.265) as ROS messages carry them: one encoded image each.

The data is a byte stream with start codes (Annex B of ITU-T H.264 and H.265). Types of its NAL
units: tables 7-1 of both standards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import Buffer

CODECS = {'h264': 'H.264', 'hevc': 'H.265'}  # FFmpeg's name -> name for people
START_CODE = b'\0\0\1'
H264_IDR, H264_PICTURES = range(5, 6), range(1, 6)  # pictures that need no other; all
H265_KEY, H265_PICTURES = range(16, 22), range(32)  # random access pictures; all


@dataclass(frozen=True)
class VideoPacket:
    """One encoded image, or parameters of the video; `codec` is a key of `CODECS`."""

    stamp_ns: int
    codec: str
    data: bytes

    @property
    def has_image(self) -> bool:
        """Whether the packet contains an image, not only parameters of the video."""
        return self._picture is not None

    @property
    def is_key_frame(self) -> bool:
        """Whether decoding can start at this packet."""
        key = H264_IDR if self.codec == 'h264' else H265_KEY
        return self._picture is not None and self._picture in key

    @cached_property
    def _picture(self) -> int | None:
        """NAL unit type of the image; None if there is none."""
        pictures = H264_PICTURES if self.codec == 'h264' else H265_PICTURES
        return next(
            (kind for kind in _unit_types(self.codec, self.data) if kind in pictures), None
        )


def codec_of(format: str) -> str:
    """Return the codec that a message names, a key of `CODECS`.

    Args:
        format: Field `format` of foxglove_msgs/CompressedVideo, such as 'h264', or `encoding` of
            ffmpeg_image_transport_msgs/FFMPEGPacket: a codec or an encoder, such as 'hevc',
            'libx264' or 'h264_nvenc', possibly with pixel formats after a semicolon.

    Raises:
        InputError: The codec is not supported.
    """
    name = format.partition(';')[0].strip().lower()
    if re.search(r'h\.?264|x264|avc', name):
        return 'h264'
    if re.search(r'h\.?265|x265|hevc', name):
        return 'hevc'
    raise InputError(f"video format '{format}' is not supported (known: {', '.join(CODECS)})")


def video_packet(stamp_ns: int, format: str, data: Buffer) -> VideoPacket:
    """Return the packet of a message after checks that need no decoding.

    Args:
        stamp_ns: Stamp of the message.
        format: Its codec, see `codec_of`.
        data: Bytes of the encoded image.

    Raises:
        InputError: The codec is not supported, or the data is empty or has no start code.
    """
    codec = codec_of(format)
    found = np.frombuffer(data, np.uint8).tobytes()
    if not found:
        raise InputError(f"video packet '{format}' contains no data")
    if not found.startswith((START_CODE, b'\0' + START_CODE)):
        raise InputError(
            f"video packet '{format}' of {len(found)} bytes does not begin with a start code "
            '(Annex B)'
        )
    return VideoPacket(stamp_ns, codec, found)


def _unit_types(codec: str, data: bytes) -> Iterator[int]:
    at = data.find(START_CODE)
    while 0 <= at < len(data) - len(START_CODE):
        at += len(START_CODE)
        yield data[at] & 0x1F if codec == 'h264' else data[at] >> 1 & 0x3F
        at = data.find(START_CODE, at)
