# SPDX-License-Identifier: Apache-2.0
"""Read rosbag2 recordings (a folder, an .mcap or a .db3 file) with `rosbags`, without ROS.

Only image messages are deserialized; messages of other types, including custom types, are returned
as bytes. The stamp of a frame is its header stamp, as in the nodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import decode_compressed, decode_raw
from vljepa_ros.core.types import Frame, Image
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.names import camera_names

RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
FIRST = 100  # images whose stamps are compared to find the start
DAY_NS = 86_400 * 10**9
STORAGE = ('.mcap', '.db3')


@dataclass(frozen=True)
class BagTopic:
    """Topic of a bag with its number of messages; `latched`: durability is transient local."""

    name: str
    type: str
    count: int
    latched: bool = False

    @property
    def is_image(self) -> bool:
        """Whether the topic has an image type and is not a compressed depth image."""
        return self.type == RAW or (
            self.type == COMPRESSED and not self.name.endswith('/compressedDepth')
        )


@dataclass(frozen=True)
class BagMessage:
    """Serialized message (CDR) of a bag; `log_ns` is the time at which it was recorded."""

    topic: BagTopic
    log_ns: int
    data: bytes


class Bag:
    """Topics and messages of a rosbag2 recording."""

    def __init__(self, path: Path) -> None:
        """Read the topics; raise InputError if the bag cannot be opened or is empty."""
        self.path = path
        self._storage = _storage_of(path)
        self.topics = self._read_topics()

    @property
    def image_topics(self) -> tuple[BagTopic, ...]:
        """Topics that carry images."""
        return tuple(topic for topic in self.topics if topic.is_image)

    def choose(self, names: Sequence[str] = ()) -> tuple[BagTopic, ...]:
        """Return the image topics with these names, or all image topics if there are no names.

        Args:
            names: Topic names. Without names, a compressed topic is omitted if the bag has the raw
                topic of the same camera.

        Raises:
            InputError: The bag has no image topic, or a name is unknown or is not an image topic.
        """
        known = {topic.name: topic for topic in self.topics}
        if not self.image_topics:
            listed = ', '.join(f'{t.name} ({t.type})' for t in self.topics) or 'none'
            raise InputError(f'{self.path}: no image topic (topics: {listed})')
        listed = ', '.join(topic.name for topic in self.image_topics)
        for name in names:
            if name not in known:
                raise InputError(f"{self.path}: no topic '{name}' (image topics: {listed})")
            if not known[name].is_image:
                raise InputError(
                    f"{self.path}: topic '{name}' is of type {known[name].type}, "
                    f'not an image topic (image topics: {listed})'
                )
        if names:
            return tuple(known[name] for name in dict.fromkeys(names))
        raw = {topic.name for topic in self.image_topics if topic.type == RAW}
        return tuple(
            t
            for t in self.image_topics
            if t.name.removesuffix('/compressed') not in raw - {t.name}
        )

    def messages(self, topics: Sequence[BagTopic]) -> Iterator[BagMessage]:
        """Iterate over the messages of some topics in the order of recording.

        Raises:
            InputError: The bag is damaged.
        """
        by_name = {topic.name: topic for topic in topics}
        with self._guard(), Reader(self._storage) as reader:
            wanted = [c for c in reader.connections if c.topic in by_name]
            found = reader.messages(wanted) if wanted else iter(())
            while True:
                with self._guard():
                    item = next(found, None)
                if item is None:
                    return
                connection, log_ns, data = item
                yield BagMessage(by_name[connection.topic], log_ns, bytes(data))

    def _read_topics(self) -> tuple[BagTopic, ...]:
        topics: dict[tuple[str, str], BagTopic] = {}
        with self._guard(), Reader(self._storage) as reader:
            for found in reader.connections:
                key = (found.topic, found.msgtype)
                before = topics.get(key, BagTopic(*key, 0))
                profiles: Any = getattr(found.ext, 'offered_qos_profiles', ())
                latched = any(p.durability == QosDurability.TRANSIENT_LOCAL for p in profiles)
                topics[key] = BagTopic(*key, before.count + found.msgcount, latched)
        if not sum(topic.count for topic in topics.values()):
            raise InputError(f'{self.path}: the bag is empty')
        return tuple(topics.values())

    def _guard(self) -> _Guard:
        return _Guard(self.path)


class _Guard:
    """Context manager that converts any exception of the reader to a one-line InputError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f'{self._path}: damaged or truncated bag: {reason}') from error


def _storage_of(path: Path) -> Path:
    """Return the path for the reader: a file, or a folder with metadata.yaml.

    A folder without metadata.yaml is replaced by its only bag file.

    Raises:
        InputError: The file is empty, or the folder has no metadata.yaml but several bag files.
    """
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f'{path}: the file is empty')
        return path
    if (path / 'metadata.yaml').is_file():
        return path
    parts = sorted(p for p in path.iterdir() if p.suffix in STORAGE)
    if len(parts) == 1:
        return _storage_of(parts[0])
    raise InputError(
        f'{path}: no metadata.yaml for {len(parts)} bag files; give the path of one file'
    )


class BagSource(Source):
    """Frames of one or more image topics of a bag."""

    def __init__(self, path: Path, topics: Sequence[str] = ()) -> None:
        """Open the bag.

        Args:
            path: Bag folder or file.
            topics: Topics as `[NAME=]TOPIC`, with an optional camera name; if empty, all image
                topics.

        Raises:
            InputError: The bag or a topic is invalid, or no image can be decoded.
        """
        super().__init__(path)
        self.bag = Bag(path)
        given = [topic.rpartition('=')[::2] for topic in topics]
        self.topics = self.bag.choose([topic for _, topic in given])
        called = {topic: name for name, topic in given if name}
        self.names = camera_names([topic.name for topic in self.topics], called)
        self.cameras = tuple(self.names.values())
        self.total = sum(topic.count for topic in self.topics)
        self._unpack = unpacker()
        self._find_start()
        self.start_ns = self._plausible_start()

    def _plausible_start(self) -> int:
        """Return `start_ns`, or the first stamp of most images if they are a day or more apart.

        The first images of a recording can have stamps of a clock that was not set yet.
        """
        stamps_ns = list[int]()
        for message in islice(self.bag.messages(self.topics), FIRST):
            with suppress(InputError):  # reported as `Damaged`
                stamps_ns.append(stamp_of(message.data))

        def group(start_ns: int) -> list[int]:
            return [t for t in stamps_ns if abs(t - start_ns) < DAY_NS]

        largest = max((group(t) for t in stamps_ns), key=len, default=[])
        return largest[0] if len(largest) > len(group(self.start_ns)) else self.start_ns

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over recorded frames, with a `Damaged` in place of each unreadable image."""
        for message in self.bag.messages(self.topics):
            name = self.names[message.topic.name]
            try:
                stamp_ns = stamp_of(message.data)
            except InputError as error:
                yield Damaged(message.log_ns, name, str(error))
                continue
            try:
                yield Frame(stamp_ns, self._unpack(message.topic.type, message.data), name)
            except InputError as error:
                yield Damaged(stamp_ns, name, str(error))


def stamp_of(data: bytes) -> int:
    """Return the header stamp in nanoseconds of a CDR message that begins with a header.

    Raises:
        InputError: The message is too short.
    """
    if len(data) < 12:
        raise InputError(f'message of {len(data)} bytes is too short for a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def unpacker() -> Callable[[str, bytes], Image]:
    """Return a function that decodes an image message, from its type and CDR bytes, to RGB.

    The function raises InputError if the message is damaged.
    """
    store = get_typestore(Stores.LATEST)

    def unpack(kind: str, data: bytes) -> Image:
        try:
            message: Any = store.deserialize_cdr(data, kind)
        except Exception as error:  # damaged bytes can raise any exception
            raise InputError(f'message of {len(data)} bytes is not a valid {kind}') from error
        if kind == COMPRESSED:
            return decode_compressed(message.format, message.data)
        return decode_raw(
            message.encoding,
            message.width,
            message.height,
            message.step,
            bool(message.is_bigendian),
            message.data,
        )

    return unpack
