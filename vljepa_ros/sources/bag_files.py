# SPDX-License-Identifier: Apache-2.0
"""Files of recordings, told apart by their first bytes: MCAP, SQLite (rosbag2), ROS 1.

A file is read on its own, without metadata.yaml or other indexes beside it. Messages are CDR, the
serialization of ROS 2. Sources: mcap.dev/spec, rosbag2_storage_sqlite3, wiki.ros.org/Bags.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import yaml
import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import NonSeekingReader, SeekingReader
from mcap.records import Channel, Schema
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.typesys import Stores, get_typestore

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import COMPRESSED, RAW, TRANSPORTS

BESIDE_SQLITE = ('-wal', '-journal')  # what a killed recorder leaves beside the database
ZSTD = b'\x28\xb5\x2f\xfd'  # first bytes of a compressed file or message; CDR begins with 0


@dataclass(frozen=True)
class BagTopic:
    """Topic of a bag with its number of messages.

    `latched`: durability is transient local. `definition`: text of the message definition; '' if
    the file does not contain it.
    """

    name: str
    type: str
    count: int
    latched: bool = False
    definition: str = field(default='', compare=False)

    @property
    def is_image(self) -> bool:
        """Whether the topic has an image type and is not a compressed depth image."""
        return self.type in TRANSPORTS.values() and not self.is_depth

    @property
    def is_depth(self) -> bool:
        """Whether the name of the topic marks compressed depth images."""
        return self.type == COMPRESSED and self.name.endswith('/compressedDepth')


@dataclass(frozen=True)
class Stored:
    """Serialized message (CDR) with topic name and type; `log_ns` is its recording time."""

    topic: str
    type: str
    log_ns: int
    data: bytes


class BagFile(ABC):
    """One file of a recording, with the topics that it contains."""

    kind = ''  # name of the format, for messages
    signature = b''  # first bytes of the file

    def __init__(self, path: Path) -> None:
        """Read the topics.

        Raises:
            InputError: The file cannot be read.
        """
        self.path = path
        with self._guard():
            self._file = self._readable()
            self.topics = self._read_topics()

    def _readable(self) -> Path:
        """Return the path to read: `path`, or a copy that is removed with this object."""
        return _copy(self, [self.path]) if is_compressed(self.path) else self.path

    @abstractmethod
    def _read_topics(self) -> tuple[BagTopic, ...]: ...

    @abstractmethod
    def _read(self, topics: Collection[str]) -> Iterator[Stored]: ...

    def messages(self, topics: Collection[str]) -> Iterator[Stored]:
        """Iterate over the messages of topics in the order of recording.

        Raises:
            InputError: The file is damaged; all readable messages before the damage were returned.
        """
        found = self._read(topics)
        while True:
            with self._guard():
                stored = next(found, None)
            if stored is None:
                return
            yield stored

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Convert any exception of a reader to an InputError of one line that names the cause."""
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise InputError(f'{self.path}: {error.strerror or error}') from error
        except Exception as error:  # damaged bytes can raise any exception
            raise InputError(f'{self.path}: {self._cause(error)}') from error

    def _cause(self, error: Exception) -> str:
        reason = (str(error).splitlines() or [''])[0] or type(error).__name__
        return f'damaged {self.kind} file: {reason}'


class McapFile(BagFile):
    """MCAP file of any profile. A file without an end is read up to its last complete record."""

    kind, signature = 'MCAP', b'\x89MCAP0\r\n'

    def _read_topics(self) -> tuple[BagTopic, ...]:
        counts: Counter[int] = Counter()
        self._is_complete = True  # whether the file has an end
        with self._file.open('rb') as stream:
            reader = SeekingReader(stream, validate_crcs=True)
            try:
                summary = reader.get_summary()
            except (McapError, OSError, ValueError):
                summary, self._is_complete = None, False
            if summary and summary.statistics and summary.channels:
                counts.update(summary.statistics.channel_message_counts)
                channels = [
                    (summary.schemas.get(channel.schema_id), channel)
                    for channel in summary.channels.values()
                ]
            else:
                channels = self._scan(counts)
        return merged(
            BagTopic(
                channel.topic,
                _type_of(schema),
                counts[channel.id],
                _is_latched(channel.metadata.get('offered_qos_profiles', '')),
                schema.data.decode(errors='replace') if schema else '',
            )
            for schema, channel in channels
        )

    def _scan(self, counts: Counter[int]) -> list[tuple[Schema | None, Channel]]:
        """Count the messages of a file without index, and return its channels."""
        channels: dict[int, tuple[Schema | None, Channel]] = {}
        try:
            with self._file.open('rb') as stream:
                for schema, channel, _ in NonSeekingReader(stream).iter_messages(
                    log_time_order=False
                ):
                    channels[channel.id] = schema, channel
                    counts[channel.id] += 1
        except Exception:  # reported by `messages`, after the readable part
            if not channels:
                raise
        return list(channels.values())

    def _read(self, topics: Collection[str]) -> Iterator[Stored]:
        with self._file.open('rb') as stream:
            reader = SeekingReader if self._is_complete else NonSeekingReader
            for schema, channel, message in reader(stream, validate_crcs=True).iter_messages(
                topics=topics, log_time_order=self._is_complete
            ):
                yield Stored(
                    channel.topic, _type_of(schema), message.log_time, bytes(message.data)
                )

    def _cause(self, error: Exception) -> str:
        repair = f"the rest can be repaired with 'mcap recover {self.path.name} -o fixed.mcap'"
        if isinstance(error, EndOfFile) or not self._is_complete:
            return f'the MCAP file ends early (the recorder was killed, or is running): {repair}'
        return f'{super()._cause(error)}; {repair}'


class SqliteFile(BagFile):
    """SQLite file of rosbag2, with the part that a killed recorder left in a -wal or -journal."""

    kind, signature = 'SQLite', b'SQLite format 3\0'

    def _read_topics(self) -> tuple[BagTopic, ...]:
        with self._open() as database:
            tables = {name for (name,) in database.execute('SELECT name FROM sqlite_master')}
            if not {'topics', 'messages'} <= tables:
                raise InputError(
                    f"{self.path}: not a bag: the database has no tables 'topics' and 'messages'"
                )
            counts: dict[int, int] = dict(
                database.execute('SELECT topic_id, count(*) FROM messages GROUP BY topic_id')
            )
            columns = {row[1] for row in database.execute('PRAGMA table_info(topics)')}
            profiles = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
            rows = database.execute(f'SELECT id, name, type, {profiles} FROM topics ORDER BY id')
            definitions: dict[str, str] = {}
            if 'message_definitions' in tables:
                definitions = dict(
                    database.execute(
                        'SELECT topic_type, encoded_message_definition FROM message_definitions '
                        "WHERE encoding = 'ros2msg'"
                    )
                )
            return merged(
                BagTopic(
                    name,
                    kind,
                    counts.get(number, 0),
                    _is_latched(profile),
                    definitions.get(kind, ''),
                )
                for number, name, kind, profile in rows
            )

    def _read(self, topics: Collection[str]) -> Iterator[Stored]:
        marks = ','.join('?' * len(topics))
        with self._open() as database:
            for row in database.execute(
                'SELECT name, type, timestamp, data FROM messages JOIN topics '
                f'ON topic_id = topics.id WHERE name IN ({marks}) ORDER BY timestamp',
                tuple(topics),
            ):
                yield Stored(*row)

    def _readable(self) -> Path:
        beside = [self.path.with_name(self.path.name + suffix) for suffix in BESIDE_SQLITE]
        beside = [file for file in beside if file.is_file() and file.stat().st_size]
        # SQLite applies such a file by writing, and the folder may be read-only.
        return _copy(self, [self.path, *beside]) if beside else super()._readable()

    def _open(self) -> closing[sqlite3.Connection]:
        is_copy = self._file != self.path
        # `as_uri` escapes characters such as # and ?.
        uri = self._file.resolve().as_uri()
        return closing(
            sqlite3.connect(f'{uri}?{"mode=rw" if is_copy else "immutable=1"}', uri=True)
        )

    def _cause(self, error: Exception) -> str:
        if isinstance(error, sqlite3.OperationalError):
            return f'SQLite cannot open or read the file: {error}'
        return f"{super()._cause(error)}; repair it with 'sqlite3 {self.path.name} .recover'"


class Ros1File(BagFile):
    """Bag of ROS 1. Only image messages are read; they are converted to CDR."""

    kind, signature = 'ROS 1', b'#ROSBAG V'

    def _read_topics(self) -> tuple[BagTopic, ...]:
        with Ros1Reader(self._file) as reader:
            return merged(
                BagTopic(found.topic, found.msgtype, found.msgcount)
                for found in reader.connections
            )

    def _read(self, topics: Collection[str]) -> Iterator[Stored]:
        store = get_typestore(Stores.LATEST)
        with Ros1Reader(self._file) as reader:
            wanted = [
                found
                for found in reader.connections
                if found.topic in topics and found.msgtype in (RAW, COMPRESSED)
            ]
            for found, log_ns, data in reader.messages(wanted) if wanted else ():
                cdr = bytes(store.ros1_to_cdr(data, found.msgtype))  # omits header.seq
                yield Stored(found.topic, found.msgtype, log_ns, cdr)

    def _cause(self, error: Exception) -> str:
        return f"{super()._cause(error)}; repair it with 'rosbag reindex {self.path.name}'"


FORMATS = (McapFile, SqliteFile, Ros1File)


def format_of(path: Path) -> type[BagFile] | None:
    """Return the format of a file by its first bytes; None if it is not a bag.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        with _decompressed(path) as stream:
            begin = stream.read(16)
    except zstandard.ZstdError:
        return None
    return next((kind for kind in FORMATS if begin.startswith(kind.signature)), None)


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed by zstd, as by rosbag2's compression mode FILE."""
    with path.open('rb') as stream:
        return stream.read(len(ZSTD)) == ZSTD


def open_file(path: Path) -> BagFile:
    """Open one file of a recording.

    Raises:
        InputError: The file is empty, damaged or not a bag.
        OSError: The file cannot be read.
    """
    if path.stat().st_size == 0:
        raise InputError(f'{path}: the file is empty')
    kind = format_of(path)
    if kind is None:
        raise InputError(f'{path}: not a bag: the file is neither MCAP, nor SQLite, nor ROS 1')
    return kind(path)


def _decompressed(path: Path) -> BinaryIO:
    stream = path.open('rb')
    if not is_compressed(path):
        return stream
    return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(stream, closefd=True))


def _copy(owner: BagFile, files: Sequence[Path]) -> Path:
    """Copy files, decompressed, to a folder that is removed with `owner`; return the first."""
    folder = Path(tempfile.mkdtemp(prefix='vljepa-bag-'))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    for file in files:
        with _decompressed(file) as packed, (folder / file.name).open('wb') as plain:
            shutil.copyfileobj(packed, plain)
    return folder / files[0].name


def unpacked(data: bytes) -> bytes:
    """Return a message, decompressed if it is compressed by rosbag2; empty if it is damaged."""
    if not data.startswith(ZSTD):
        return data
    try:
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    except zstandard.ZstdError:
        return b''


def _type_of(schema: Schema | None) -> str:
    return schema.name if schema else 'no schema'


def _is_latched(profiles: str) -> bool:
    """Return whether any of the QoS profiles of a topic, in YAML, is transient local."""
    try:
        found: Any = yaml.safe_load(profiles)
    except yaml.YAMLError:
        return False
    return isinstance(found, list) and any(
        isinstance(profile, dict)
        and str(profile.get('durability')).lower() in ('1', 'transient_local')
        for profile in found
    )


def merged(topics: Iterable[BagTopic]) -> tuple[BagTopic, ...]:
    """Merge topics of the same name and type: counts are added; latched if any topic is."""
    found: dict[tuple[str, str], BagTopic] = {}
    for topic in topics:
        key = topic.name, topic.type
        before = found.get(key, BagTopic(*key, 0, definition=topic.definition))
        found[key] = replace(
            before, count=before.count + topic.count, latched=before.latched or topic.latched
        )
    return tuple(found.values())
