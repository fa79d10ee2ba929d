# SPDX-License-Identifier: Apache-2.0
"""Small recordings for tests, written by rosbags."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from helpers.fake_models import solid_image
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

TOPIC = '/camera/image_raw/compressed'
START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 100_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
NOETIC: Any = get_typestore(Stores.ROS1_NOETIC)
TYPES: Any = STORE.types
STORE.register(get_types_from_msg('float64 secret', 'odd_msgs/msg/Odd'))


def jpeg(image: np.ndarray) -> np.ndarray:
    """Encode an image as JPEG."""
    return np.asarray(cv2.imencode('.jpg', image[..., ::-1])[1], np.uint8).ravel()


def header(stamp_ns: int, frame_id: str = 'optical') -> Any:
    return TYPES['std_msgs/msg/Header'](
        stamp=TYPES['builtin_interfaces/msg/Time'](
            sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
        ),
        frame_id=frame_id,
    )


def compressed(stamp_ns: int, data: np.ndarray) -> Any:
    """Return a CompressedImage with the given bytes."""
    return TYPES['sensor_msgs/msg/CompressedImage'](
        header=header(stamp_ns), format='jpeg', data=data
    )


def raw(stamp_ns: int, image: np.ndarray, padding: int = 0, encoding: str = 'rgb8') -> Any:
    """Return an Image with row padding."""
    height, width = image.shape[:2]
    rows = np.pad(image.reshape(height, -1), ((0, 0), (0, padding)))
    return TYPES['sensor_msgs/msg/Image'](
        header=header(stamp_ns),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * 3 + padding,
        data=rows.ravel(),
    )


def odd(value: float) -> Any:
    """Return a message of an unknown type."""
    return TYPES['odd_msgs/msg/Odd'](secret=value)


Row = tuple[str, int, Any]  # topic, time of recording, message


def write(
    folder: Path,
    rows: Iterable[Row],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    topics: Iterable[tuple[str, str]] = (),
) -> Path:
    """Write a bag folder; it contains `topics` (name, type) even without messages."""
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connections = {
            name: writer.add_connection(name, kind, typestore=STORE) for name, kind in topics
        }
        for topic, log_ns, message in rows:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=STORE
                )
            data = STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], log_ns, data)
    return folder


def write_mcap(
    file: Path,
    rows: Iterable[Row],
    profile: str = 'ros2',
    foreign: Iterable[tuple[str, int, bytes]] = (),
) -> Path:
    """Write an MCAP file with chunks of one or two images, by Foxglove's library.

    Args:
        file: File to write.
        rows: Messages of ROS 2.
        profile: Profile in the header of the file.
        foreign: Topic, recording time and data of messages in protobuf.
    """
    with file.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=1000, compression=CompressionType.NONE)
        writer.start(profile)
        channels: dict[str, int] = {}
        protobuf = writer.register_schema('foxglove.CompressedImage', 'protobuf', b'\x0a\x01x')
        for topic, log_ns, data in foreign:
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, 'protobuf', protobuf)
            writer.add_message(channels[topic], log_ns, data, log_ns)
        for topic, log_ns, message in rows:
            kind = message.__msgtype__
            if topic not in channels:
                schema = writer.register_schema(kind, 'ros2msg', b'')
                channels[topic] = writer.register_channel(topic, 'cdr', schema)
            data = bytes(STORE.serialize_cdr(message, kind))
            writer.add_message(channels[topic], log_ns, data, log_ns)
        writer.finish()
    return file


def write_ros1(file: Path, rows: Iterable[Row]) -> Path:
    """Write a ROS 1 bag of images, from messages of ROS 2."""
    with Ros1Writer(file) as writer:
        connections: dict[str, Any] = {}
        for number, (topic, log_ns, message) in enumerate(rows):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=NOETIC)
            stamped = NOETIC.types['std_msgs/msg/Header'](
                seq=number, stamp=message.header.stamp, frame_id=message.header.frame_id
            )
            old = NOETIC.types[kind](**{**vars(message), 'header': stamped})
            writer.write(connections[topic], log_ns, NOETIC.serialize_ros1(old, kind))
    return file


def stamps(count: int) -> list[int]:
    """Return ten stamps per second."""
    return [START_NS + i * PERIOD_NS for i in range(count)]


def colors(names: Iterable[str], each: int, topic: str = TOPIC) -> list[Row]:
    """Return `each` images of every color, one color after the other."""
    shown = [name for name in names for _ in range(each)]
    return [
        (topic, stamp, compressed(stamp, jpeg(solid_image(name))))
        for name, stamp in zip(shown, stamps(len(shown)), strict=True)
    ]
