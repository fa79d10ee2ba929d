# SPDX-License-Identifier: Apache-2.0
"""Videos for tests, encoded by PyAV as packets with start codes (Annex B)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from helpers import bags
from rosbags.typesys import get_types_from_msg

from vljepa_ros.core.images import FFMPEG, FOXGLOVE
from vljepa_ros.core.types import Image
from vljepa_ros.sources.bag_images import DEFINITIONS

ENCODERS = {'h264': 'libx264', 'hevc': 'libx265'}
QUIET = 'log-level=none'
for _name, _text in DEFINITIONS.items():
    bags.STORE.register(get_types_from_msg(_text, _name))


class Encoded(NamedTuple):
    """Packet of a video: the number of its image, whether the encoder marks a key frame, bytes."""

    number: int
    is_key: bool
    data: bytes


def encode(
    images: Iterable[Image],
    codec: str = 'h264',
    key_every: int = 250,
    reordered: bool = False,
) -> list[Encoded]:
    """Encode images, in the order in which an encoder sends their packets.

    Args:
        images: Images of one size, with even width and height.
        codec: 'h264' or 'hevc'.
        key_every: Number of images from one key frame to the next.
        reordered: Whether the encoder uses B-frames, which are sent after a later image.
    """
    context: Any = av.CodecContext.create(ENCODERS[codec], 'w')
    context.pix_fmt, context.framerate, context.time_base = 'yuv420p', 10, Fraction(1, 10)
    x265 = f'{QUIET}:keyint={key_every}:min-keyint={key_every}:scenecut=0:open-gop=0'
    context.options = {'g': str(key_every), 'forced_idr': '1', 'sc_threshold': '0', 'qp': '18'}
    if codec == 'hevc':
        context.options = {'x265-params': f'{x265}:qp=18' + (':bframes=3' if reordered else '')}
    if not reordered:
        context.options |= {'tune': 'zerolatency'}
    packets = []
    images = list(images)
    context.height, context.width = images[0].shape[:2]
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [Encoded(packet.pts, packet.is_keyframe, bytes(packet)) for packet in packets]


def message(kind: str, stamp_ns: int, data: bytes, codec: str = 'h264') -> Any:
    """Return a FFMPEGPacket or CompressedVideo message of rosbags."""
    header, values = bags.header(stamp_ns), np.frombuffer(data, np.uint8)
    if kind == FOXGLOVE:
        return bags.TYPES[FOXGLOVE](
            timestamp=header.stamp,
            frame_id=header.frame_id,
            data=values,
            format={'hevc': 'h265'}.get(codec, codec),
        )
    return bags.TYPES[FFMPEG](
        header=header,
        width=0,
        height=0,
        encoding=codec,
        pts=0,
        flags=0,
        is_bigendian=False,
        data=values,
    )


def rows(
    topic: str, kind: str, packets: Sequence[Encoded], codec: str = 'h264'
) -> list[tuple[str, int, Any]]:
    """Return rows for `bags.write`: each packet with the stamp of its image, at 10 images/s."""
    return [
        (
            topic,
            bags.START_NS + sent * bags.PERIOD_NS,
            message(kind, bags.START_NS + p.number * bags.PERIOD_NS, p.data, codec),
        )
        for sent, p in enumerate(packets)
    ]


def gray(count: int, height: int = 48, width: int = 64) -> list[Image]:
    """Return images whose brightness is 10 times their number."""
    return [np.full((height, width, 3), 10 * number, np.uint8) for number in range(count)]


def numbers(images: Iterable[Image]) -> list[int]:
    """Return the numbers of decoded images of `gray`."""
    return [round(float(image.mean()) / 10) for image in images]
