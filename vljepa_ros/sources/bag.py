# SPDX-License-Identifier: Apache-2.0
"""Read recordings of ROS (a folder, an MCAP, SQLite or ROS 1 file) without ROS.

The files are the truth, and metadata.yaml only their list, because a killed recorder leaves it
incomplete. Only image messages are deserialized; messages of other types, including custom types,
are returned as bytes. The stamp of a frame is its header stamp, as in the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

import yaml

from vljepa_ros.core.errors import DepthImageError, InputError
from vljepa_ros.core.images import TRANSPORTS, VIDEO
from vljepa_ros.core.settings import check_stamp
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.bag_files import (
    BagFile,
    BagTopic,
    merged,
    open_file,
    unpacked,
)
from vljepa_ros.sources.bag_images import BagImages, stamp_of
from vljepa_ros.sources.bag_names import METADATA, PART
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.names import camera_names
from vljepa_ros.sources.natural_order import natural

FIRST = 100  # images whose stamps are compared to find the start
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class BagMessage:
    """Serialized message (CDR) of a bag; `log_ns` is the time at which it was recorded."""

    topic: BagTopic
    log_ns: int
    data: bytes


class Bag:
    """Topics and messages of a recording.

    `notes`: one line for each difference between metadata.yaml and the files.
    """

    def __init__(self, path: Path) -> None:
        """Read the topics.

        Raises:
            InputError: The bag cannot be read, or is empty.
            OSError: The folder cannot be read.
        """
        self.path = path
        self.notes: list[str] = []
        index = None if path.is_file() else self._read_index()
        self._files = self._open([path] if path.is_file() else self._choose_files(index))
        self.topics = merged(topic for file in self._files for topic in file.topics)
        count = sum(topic.count for topic in self.topics)
        if not count:
            raise InputError(f'{path}: the bag is empty')
        if index is not None and index.count != count:
            self.notes.append(
                f'{path}: {METADATA} lists {index.count} messages, '
                f'but the files contain {count}; the files are used'
            )

    @property
    def image_topics(self) -> tuple[BagTopic, ...]:
        """Topics that carry images."""
        return tuple(topic for topic in self.topics if topic.is_image)

    def choose(self, names: Sequence[str] = ()) -> tuple[BagTopic, ...]:
        """Return the image topics with these names, or all image topics if there are no names.

        Args:
            names: Topic names. Without names, image topics are found by their type, and of the
                transports of one camera the first is chosen: raw, compressed, ffmpeg, foxglove.

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
            if known[name].is_depth:
                raise InputError(
                    f"{self.path}: topic '{name}' has depth images; the model reads color images "
                    f'(image topics: {listed})'
                )
            if not known[name].is_image:
                raise InputError(
                    f"{self.path}: topic '{name}' is of type {known[name].type}, "
                    f'not an image topic (image topics: {listed})'
                )
        if names:
            return tuple(known[name] for name in dict.fromkeys(names))
        best: dict[str, BagTopic] = {}  # by name of the camera's raw topic
        for topic in sorted(self.image_topics, key=_preference):
            best.setdefault(_raw_name(topic), topic)
        return tuple(topic for topic in self.image_topics if topic in best.values())

    def messages(self, topics: Sequence[BagTopic]) -> Iterator[BagMessage]:
        """Iterate over the messages of some topics in the order of recording.

        Raises:
            InputError: A file is damaged; all readable messages of all files were returned.
        """
        chosen = {(topic.name, topic.type): topic for topic in topics}
        names = {topic.name for topic in topics}
        problem: InputError | None = None
        for file in self._files:
            try:
                for stored in file.messages(names):
                    if topic := chosen.get((stored.topic, stored.type)):
                        yield BagMessage(topic, stored.log_ns, unpacked(stored.data))
            except InputError as error:
                problem = problem or error
        if problem:
            raise problem

    def _read_index(self) -> _Index | None:
        """Return the contents of metadata.yaml; None, with a note, if they are unusable."""
        file = self.path / METADATA
        if not file.is_file():
            return None
        try:
            found = yaml.safe_load(file.read_text())['rosbag2_bagfile_information']
            names = [PurePath(name).name for name in found['relative_file_paths']]
            return _Index(names, int(found['message_count']))
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.notes.append(f'{file}: damaged ({reason}); the bag files beside it are used')
            return None

    def _choose_files(self, index: _Index | None) -> list[Path]:
        """Return the files of a folder that belong to the recording, in order of recording.

        Raises:
            InputError: There is no file, or files of several recordings and no metadata.yaml.
        """
        present = sorted(
            (p for p in self.path.iterdir() if PART.fullmatch(p.name)),
            key=lambda p: natural(p.name),
        )
        listed = [self.path / name for name in index.names] if index else []
        missing = [file.name for file in listed if file not in present]
        recordings = {_recording(file) for file in listed or present}
        if not listed and len(recordings) > 1:
            raise InputError(
                f'{self.path}: no usable {METADATA} for {len(present)} bag files; '
                'give the path of one file'
            )
        found = [file for file in present if file in listed or _recording(file) in recordings]
        if not found:
            files = f'the files that {METADATA} lists are missing: {", ".join(missing)}'
            raise InputError(f'{self.path}: {files if missing else "no bag file"}')
        if missing:
            self.notes.append(f'{self.path}: files are missing: {", ".join(missing)}')
        if listed:
            self._note_unlisted([file for file in present if file not in listed], found)
        return found

    def _note_unlisted(self, unlisted: list[Path], found: list[Path]) -> None:
        for file in unlisted:
            action = 'read as a part of this recording' if file in found else 'not read'
            self.notes.append(f'{file}: not listed in {METADATA}; {action}')

    def _open(self, paths: list[Path]) -> list[BagFile]:
        """Open the files; a file that cannot be read is noted, or raised if no other can be."""
        files, problems = list[BagFile](), list[InputError]()
        for path in paths:
            try:
                files.append(open_file(path))
            except InputError as error:
                problems.append(error)
        if not files:
            raise problems[0]
        self.notes += [f'{error}; the other files are read' for error in problems]
        return files


@dataclass(frozen=True)
class _Index:
    """Contents of metadata.yaml: names of the files, and the number of messages."""

    names: list[str]
    count: int


def _recording(file: Path) -> str:
    """Return the name of the recording that a file such as NAME_0.mcap is a part of."""
    match = PART.fullmatch(file.name)
    return match[1] if match else file.name


def _preference(topic: BagTopic) -> int:
    return tuple(TRANSPORTS.values()).index(topic.type)


def _raw_name(topic: BagTopic) -> str:
    """Return the name of the raw topic that image_transport derives the topic's name from."""
    transport = next(name for name, type_ in TRANSPORTS.items() if type_ == topic.type)
    return topic.name.removesuffix(f'/{transport}')


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
        if not given:
            self.topics = self._without_depth(self.topics)
        self.notes = tuple(self.bag.notes)
        called = {topic: name for name, topic in given if name}
        self.names = camera_names([topic.name for topic in self.topics], called)
        self.cameras = tuple(self.names.values())
        self.sources_by_topic = {topic: (name,) for topic, name in self.names.items()}
        self.total = sum(topic.count for topic in self.topics)
        self._find_start()
        self.start_ns = self._plausible_start()

    def _plausible_start(self) -> int:
        """Return `start_ns`, or the first stamp of most images if they are a day or more apart.

        The first images of a recording can have stamps of a clock that was not set yet.
        """
        stamps_ns = list[int]()
        with suppress(InputError):  # `items` reports damaged files and messages
            for message in islice(self.bag.messages(self.topics), FIRST):
                with suppress(InputError):
                    stamps_ns.append(check_stamp(stamp_of(message.data)))

        def group(start_ns: int) -> list[int]:
            return [t for t in stamps_ns if abs(t - start_ns) < DAY_NS]

        largest = max((group(t) for t in stamps_ns), key=len, default=[])
        return largest[0] if len(largest) > len(group(self.start_ns)) else self.start_ns

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over recorded frames, with a `Damaged` in place of each unreadable image.

        If a file of the bag is damaged, a last `Damaged` reports it after all readable frames.
        """
        stamp_ns, name = 0, self.cameras[0]
        images = BagImages()
        try:
            for message in self.bag.messages(self.topics):
                name = self.names[message.topic.name]
                stamp_ns = message.log_ns
                try:
                    stamp_ns = check_stamp(stamp_of(message.data))
                    for image_ns, image in images.decode(message.topic, stamp_ns, message.data):
                        yield Frame(image_ns, image, name)
                except InputError as error:
                    yield Damaged(stamp_ns, name, str(error))
            for topic, image_ns, image in images.flush():
                yield Frame(image_ns, image, self.names[topic])
        except InputError as error:
            yield Damaged(stamp_ns + 1, name, str(error), is_end=True)

    def _without_depth(self, topics: Sequence[BagTopic]) -> tuple[BagTopic, ...]:
        """Return the topics whose first image is not a depth image, and note the others.

        Raises:
            InputError: All images are depth images.
        """
        depth = [topic.name for topic in self.bag.topics if topic.is_depth and topic.count]
        color = []
        for topic in topics:
            if self._is_depth(topic):
                depth.append(topic.name)
            else:
                color.append(topic)
        if not color:
            raise InputError(
                f'{self.path}: only depth images ({", ".join(depth)}), but the model reads color'
            )
        if depth:
            self.bag.notes.append(f'{self.path}: depth images are left out: {", ".join(depth)}')
        return tuple(color)

    def _is_depth(self, topic: BagTopic) -> bool:
        if not topic.count or topic.type in VIDEO:
            return False
        with suppress(InputError):
            first = next(self.bag.messages([topic]), None)
            try:
                if first is not None:
                    list(BagImages().decode(topic, 0, first.data))
            except DepthImageError:
                return True
        return False
