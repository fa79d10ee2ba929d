# SPDX-License-Identifier: Apache-2.0
"""Decode the image messages of a bag, from CDR bytes to RGB, without ROS."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Typestore
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import (
    COMPRESSED,
    FFMPEG,
    FOXGLOVE,
    VIDEO,
    decode_compressed,
    decode_raw,
)
from vljepa_ros.core.types import Image
from vljepa_ros.core.video_packets import video_packet
from vljepa_ros.sources.bag_files import BagTopic

if TYPE_CHECKING:
    from vljepa_ros.sources.video_decoder import VideoDecoder

# Fields of messages that rosbags does not know.
DEFINITIONS = {
    FFMPEG: """
std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
""",
    FOXGLOVE: """
builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
""",
}


def stamp_of(data: bytes) -> int:
    """Return the stamp in nanoseconds of a CDR message that begins with a header or a stamp.

    Raises:
        InputError: The message is too short.
    """
    if len(data) < 12:
        raise InputError(f'message of {len(data)} bytes is too short for a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def type_store() -> Typestore:
    """Return a store of message types that includes those of `DEFINITIONS`."""
    store = get_typestore(Stores.LATEST)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


class BagImages:
    """Decoder of the image messages of a bag, which are passed in the order of recording.

    A message contains one image. Those of a video depend on earlier ones, and their images may be
    complete only after later messages.
    """

    def __init__(self) -> None:
        self._store = type_store()
        self._videos: dict[str, VideoDecoder] = {}  # by name of the topic

    def decode(self, topic: BagTopic, stamp_ns: int, data: bytes) -> Iterator[tuple[int, Image]]:
        """Yield the stamp in ns and RGB pixels of each image that a message completes.

        Args:
            topic: Topic of the message.
            stamp_ns: Stamp of the message.
            data: The message, in CDR.

        Raises:
            NoKeyFrameError: The message is a packet of a video before its first key frame.
            InputError: The message is damaged, or PyAV is not installed.
        """
        if topic.type in VIDEO:
            yield from self._decode_packet(topic, stamp_ns, data)
            return
        message = self._message(topic, data)
        if topic.type == COMPRESSED:
            yield stamp_ns, decode_compressed(message.format, message.data)
        else:
            yield (
                stamp_ns,
                decode_raw(
                    message.encoding,
                    message.width,
                    message.height,
                    message.step,
                    bool(message.is_bigendian),
                    message.data,
                ),
            )

    def _decode_packet(
        self, topic: BagTopic, stamp_ns: int, data: bytes
    ) -> Iterator[tuple[int, Image]]:
        video = self._video(topic)
        try:
            message = self._message(topic, data)
            format = message.format if topic.type == FOXGLOVE else message.encoding
            packet = video_packet(stamp_ns, format, message.data)
        except InputError:
            video.interrupt()  # the next packets state differences from this image
            raise
        for frame in video.push(packet):
            yield frame.stamp_ns, frame.image()

    def _message(self, topic: BagTopic, data: bytes) -> Any:
        try:
            return self._store.deserialize_cdr(data, topic.type)
        except Exception as error:  # damaged bytes can raise any exception
            raise InputError(
                f'message of {len(data)} bytes is not a valid {topic.type}'
            ) from error

    def flush(self) -> Iterator[tuple[str, int, Image]]:
        """Yield the topic name, stamp and pixels of the last images of the videos."""
        for name, decoder in self._videos.items():
            for frame in decoder.flush():
                yield name, frame.stamp_ns, frame.image()

    def _video(self, topic: BagTopic) -> VideoDecoder:
        if topic.name not in self._videos:
            try:
                from vljepa_ros.sources.video_decoder import VideoDecoder
            except ModuleNotFoundError as error:
                raise InputError(
                    f'{topic.type} needs the Python package {error.name}: pip install av'
                ) from error
            self._videos[topic.name] = VideoDecoder()
        return self._videos[topic.name]
