# SPDX-License-Identifier: Apache-2.0
"""Copy a bag and add topics: the result is a rosbag2 folder that ros2 bag and Foxglove read.

Messages are copied as they are, in their order, with their recording times. Message definitions
are stored in the bag; those of types that neither the copied file nor rosbags defines are empty.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vljepa_ros.core.errors import DiskFullError, InputError
from vljepa_ros.sources.bag import Bag, BagMessage
from vljepa_ros.sources.bag_files import BagTopic

UNKNOWN_HASH = f'RIHS01_{"0" * 64}'
DEPTH = 50
FOREVER = QosTime(9223372036, 854775807)
PLUGINS = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}

Added = tuple[BagTopic, dict[str, Any]]  # topic, and values of the fields of a message


class BagCopy:
    """Writer of a bag folder with copied and added messages."""

    def __init__(self, writer: Writer, definitions: Path) -> None:
        """Start a copy.

        Args:
            writer: Open writer.
            definitions: Folder with the `.msg` files of this package.
        """
        self._writer, self._store = writer, get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[tuple[str, str], Any] = {}
        types: dict[str, Any] = {}
        for file in sorted(definitions.glob('*.msg')):
            types |= get_types_from_msg(file.read_text(), f'vljepa_ros/msg/{file.stem}')
        self._store.register(types)

    def copy(self, message: BagMessage) -> None:
        """Write a message of the copied bag."""
        self._writer.write(self._connection(message.topic), message.log_ns, message.data)

    def add(self, topic: BagTopic, log_ns: int, fields: dict[str, Any]) -> None:
        """Write a message of this package or of a common type.

        Args:
            topic: Topic with its type.
            log_ns: Recording time.
            fields: Values of the fields; messages in it are mappings, too.
        """
        message = self._message(topic.type, fields)
        data = self._store.serialize_cdr(message, topic.type)
        self._writer.write(self._connection(topic), log_ns, data)

    def _message(self, kind: str, fields: dict[str, Any]) -> Any:
        """Build a message; a mapping becomes a message of the type of its field."""
        from rosbags.interfaces import Nodetype

        values = dict(fields)
        for name, (node, detail) in self._store.fielddefs[kind][1]:
            value = values.get(name)
            if node is Nodetype.NAME and isinstance(value, dict):
                values[name] = self._message(detail, value)
            elif node is Nodetype.SEQUENCE and isinstance(value, list):
                (inner, inner_kind), _ = detail
                if inner is Nodetype.NAME:
                    values[name] = [self._message(inner_kind, item) for item in value]
        return self._store.types[kind](**values)

    def _connection(self, topic: BagTopic) -> Any:
        key = topic.name, topic.type
        if key not in self._connections:
            definition: dict[str, Any] = {'typestore': self._store}
            if not self._knows(topic):
                definition = {'msgdef': topic.definition, 'rihs01': UNKNOWN_HASH}
            self._connections[key] = self._writer.add_connection(
                *key, **definition, offered_qos_profiles=[_qos(topic.latched)]
            )
        return self._connections[key]

    def _knows(self, topic: BagTopic) -> bool:
        """Return whether the type of a topic is known, also from its definition in the bag."""
        if topic.type not in self._store.types and topic.definition:
            with suppress(Exception):  # a definition in another language, or a damaged one
                found = get_types_from_msg(topic.definition, topic.type)
                self._store.register(
                    {
                        kind: fields
                        for kind, fields in found.items()
                        if kind not in self._store.types
                    }
                )
        return topic.type in self._store.types


def _qos(latched: bool) -> Qos:
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        DEPTH,
        QosReliability.RELIABLE,
        durability,
        FOREVER,
        FOREVER,
        QosLiveliness.AUTOMATIC,
        FOREVER,
        False,
    )


@contextmanager
def bag_copy(folder: Path, storage: str, definitions: Path) -> Iterator[BagCopy]:
    """Create a bag folder; it is removed again if an exception is raised in the context.

    Args:
        folder: New folder.
        storage: Key of `PLUGINS`.
        definitions: Folder with the `.msg` files of this package.

    Raises:
        InputError: The folder exists or cannot be created.
        DiskFullError: The disk is full.
    """
    if folder.exists():
        raise InputError(f'{folder} exists already')
    try:
        with Writer(folder, version=9, storage_plugin=PLUGINS[storage]) as writer:
            yield BagCopy(writer, definitions)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            kind = DiskFullError if error.errno == errno.ENOSPC else InputError
            raise kind(f'{folder}: {error.strerror}') from error
        if isinstance(error, WriterError):
            raise InputError(f'{folder}: {error}') from error
        raise


def merge(bag: Bag, copy: BagCopy, extras: Callable[[BagMessage], Iterable[Added]]) -> int:
    """Copy all messages of a bag, with added messages after those that they belong to.

    Args:
        bag: The bag to copy.
        copy: The new bag.
        extras: Returns the messages to add after a message of the bag.

    Returns:
        The number of added messages.
    """
    added = 0
    for message in bag.messages(bag.topics):
        copy.copy(message)
        for topic, fields in extras(message):
            copy.add(topic, message.log_ns, fields)
            added += 1
    return added
