# SPDX-License-Identifier: Apache-2.0
"""Decode the video packets (H.264, H.265) of one camera with PyAV (FFmpeg).

Decoding starts at a key frame, because other packets state differences from earlier images.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vljepa_ros.core.errors import InputError, NoKeyFrameError
from vljepa_ros.core.images import MAX_PIXELS
from vljepa_ros.core.types import Image
from vljepa_ros.core.video_packets import CODECS, VideoPacket

MAX_PARAMETERS = 65_536  # bytes
MAX_REORDERED = 64  # packets whose images may come later, as with B-frames; H.264 allows 16


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded image in the pixel format of the video, with the stamp of its packet."""

    stamp_ns: int
    frame: av.VideoFrame

    def image(self) -> Image:
        """Return the upright image, (H, W, 3) uint8, RGB."""
        return image_of(self.frame)


class VideoDecoder:
    """Decoder of the packets of one camera, in the order in which they were sent.

    It waits for a key frame at the start, after an error, after `interrupt`, and when the codec
    changes. `skipped`: number of packets that were skipped since then.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._context: VideoCodecContext | None = None
        self._codec = ''
        self._parameters = b''
        self._stamps_ns: dict[int, int] = {}  # by number of the packet
        self._number = 0

    @property
    def is_decoding(self) -> bool:
        """Whether a key frame was received, so that every packet can be decoded."""
        return self._context is not None

    def push(self, packet: VideoPacket) -> list[DecodedFrame]:
        """Decode a packet and return the complete images: one, unless images are reordered.

        Raises:
            NoKeyFrameError: The packet was skipped, because no key frame was received yet.
            InputError: The packet is damaged; decoding continues at the next key frame.
        """
        if packet.codec != self._codec:
            self.interrupt()
            self._codec, self._parameters = packet.codec, b''
        if not packet.has_image:  # some encoders send the parameters of a key frame before it
            self._parameters = (self._parameters + packet.data)[:MAX_PARAMETERS]
            return []
        if self._context is None:
            self._start(packet)
        assert self._context is not None
        self._number += 1
        self._stamps_ns[self._number] = packet.stamp_ns
        while len(self._stamps_ns) > MAX_REORDERED:
            del self._stamps_ns[next(iter(self._stamps_ns))]
        coded = av.Packet(self._parameters + packet.data)
        self._parameters = b''
        coded.pts = coded.dts = self._number
        try:
            frames = self._decoded(self._context.decode(coded))
        except (av.FFmpegError, InputError) as error:
            self.interrupt()
            raise InputError(
                f'{CODECS[packet.codec]} packet of {len(packet.data)} bytes cannot be decoded: '
                f'{getattr(error, "strerror", None) or error}; continuing at the next key frame'
            ) from error
        return frames

    def flush(self) -> list[DecodedFrame]:
        """Return the images that the decoder still holds for reordering, at the end of a video."""
        context, self._context = self._context, None
        try:
            return self._decoded(context.decode(None)) if context is not None else []
        except (av.FFmpegError, InputError):
            return []

    def interrupt(self) -> None:
        """Wait for the next key frame, because packets were lost."""
        self._context, self._stamps_ns, self.skipped = None, {}, 0

    def _start(self, packet: VideoPacket) -> None:
        if not packet.is_key_frame:
            self.skipped += 1
            name = CODECS[packet.codec]
            raise NoKeyFrameError(
                f'decoding of the {name} video starts at a key frame: packet skipped'
            )
        context = av.CodecContext.create(packet.codec, 'r')
        assert isinstance(context, VideoCodecContext)
        context.thread_count = 1  # more threads delay images, and compete with the model
        self._context = context

    def _decoded(self, frames: list[av.VideoFrame]) -> list[DecodedFrame]:
        found = []
        for frame in frames:
            if frame.width * frame.height > MAX_PIXELS:
                raise InputError(
                    f'{frame.width}x{frame.height} pixels are more than {MAX_PIXELS:,}'
                )
            stamp_ns = self._stamps_ns.pop(frame.pts or 0, None)
            if stamp_ns is not None:
                found.append(DecodedFrame(stamp_ns, frame))
        return found


def image_of(frame: av.VideoFrame) -> Image:
    """Return the upright image of a decoded frame, (H, W, 3) uint8, RGB."""
    turns, rest = divmod(frame.rotation, 90)
    image = frame.to_ndarray(format='rgb24', interpolation='BICUBIC')
    return np.ascontiguousarray(np.rot90(image, 0 if rest else turns))
