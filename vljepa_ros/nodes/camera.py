# SPDX-License-Identifier: Apache-2.0
"""One camera's topic: its subscription, the judge of its stamps, and what is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from vljepa_ros.core import types
from vljepa_ros.core.errors import InputError
from vljepa_ros.nodes import qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.conversions import check_picture, to_ns, to_picture
from vljepa_ros.stream.familiarity import UnfamiliarSpan
from vljepa_ros.stream.stamp_filter import StampFilter

WAITING_S = 5.0  # how often a node says what it waits for
NO_SEQUENCE = 2**64 - 1  # of a middleware that does not number its messages


@dataclass
class Arrived:
    """A picture on its way to the model."""

    message: Any
    stamp_ns: int
    reset_count: int
    arrived_s: float
    number: int  # counts on without a gap: one that is missing was dropped by us


class Camera:
    """Judges stamps as messages are received; pictures stay packed until the model's turn."""

    def __init__(self, name: str, values: Mapping[str, Any], max_gap_ns: int) -> None:
        self.name = name
        self.topic: str = values[f'{name}.topic']
        self.transport: str = values[f'{name}.transport']
        self.degrees: int = values[f'{name}.rotate']
        self.stamp_filter = StampFilter(
            max_gap_ns, time.time_ns()
        )  # a reset counter of no other process
        self.frame_id = ''
        self.unfamiliar = UnfamiliarSpan()
        self.lost = 0
        self.behind = False  # pictures were dropped since the last one that the model saw
        self._arrived = self._taken = 0  # numbers of the newest pictures
        self._shared = False  # by several publishers, each of which numbers its own messages
        self._sequence: int | None = None
        self._subscription: Any = None
        self._heard_s = self._said_s = time.monotonic()

    def subscribe(
        self,
        node: VljepaNode,
        on_picture: Callable[[Camera, Arrived], None],
        on_refused: Callable[[Camera, Any], None],
    ) -> None:
        """Take messages from now on."""
        name = node.resolve_topic_name(self.topic)
        if self.transport == 'compressed' and not name.endswith('/compressed'):
            name += '/compressed'  # as image_transport names it; a remapped `image` counts, too
        self.resolved = name
        self._heard_s = self._said_s = time.monotonic()
        self._sequence = None
        self.unfamiliar = UnfamiliarSpan()

        def on_message(message: Any, info: Mapping[str, Any]) -> None:
            stamp_ns = to_ns(message.header.stamp)
            self._note(node, message, info)
            verdict = self.stamp_filter.admit(stamp_ns)
            if verdict.message:
                node.trouble(f'{self.name}: odd stamps', f'{self.name}: {verdict.message}')
            if not verdict.accepted or not self._is_sound(node, message):
                on_refused(self, message.header)
                return
            self._arrived += 1
            arrived = Arrived(message, stamp_ns, verdict.reset_count, self._heard_s, self._arrived)
            on_picture(self, arrived)

        kind = CompressedImage if self.transport == 'compressed' else Image
        self._subscription = node.subscriber(kind, name, on_message, qos.IMAGE)

    def unsubscribe(self, node: VljepaNode) -> None:
        """Take no more."""
        if self._subscription is not None:
            node.destroy_subscription(self._subscription)
            self._subscription = None

    def take(self, arrived: Arrived) -> types.Image:
        """The picture, in the model thread. Raises InputError for one that is damaged."""
        self.behind |= arrived.number > self._taken + 1
        self._taken = arrived.number
        return to_picture(arrived.message, self.degrees)

    def reject(self, node: VljepaNode, error: InputError) -> None:
        """Report a picture that is damaged."""
        self.stamp_filter.reject()
        node.trouble(f'{self.name}: bad pictures', f'{self.name}: {error}')

    def look_around(self, node: VljepaNode) -> None:
        """Say what is waited for, every few seconds, and who else publishes here."""
        publishers = node.count_publishers(self.resolved)
        self._shared = publishers > 1
        node.condition(
            f'{self.name}: publishers',
            f'{publishers} publishers share {self.resolved}' if publishers > 1 else '',
        )
        now = time.monotonic()
        silent = now - self._heard_s >= WAITING_S
        text = f'waiting for images on {self.resolved} ({self.transport}): ' + (
            f'{publishers} publisher(s), but nothing arrives'
            if publishers
            else 'nobody publishes it'
        )
        node.health.condition(f'{self.name}: waiting', text if silent else '')
        if silent and now - self._said_s >= WAITING_S:
            self._said_s = now
            node.get_logger().warning(text)

    def describe(self) -> dict[str, str]:
        """For the diagnostics."""
        stamp_filter, received = self.stamp_filter, self.stamp_filter.received
        sent = received + self.lost
        return {
            f'{self.name}: {name}': str(value)
            for name, value in {
                'topic': self.topic,
                'frames received': received,
                'frames lost before us': self.lost,
                'share of frames received': f'{received / sent:.3f}' if sent else 'none yet',
                'dropped: stamp went back': stamp_filter.dropped_back,
                'dropped: stamp stood still': stamp_filter.dropped_still,
                'rejected pictures': stamp_filter.rejected,
                'starts anew': stamp_filter.resets,
                'size changes': stamp_filter.size_changes,
            }.items()
        }

    def _is_sound(self, node: VljepaNode, message: Any) -> bool:
        """Whether it may displace the picture that waits: a damaged one shall not."""
        try:
            check_picture(message)
        except InputError as error:
            self.reject(node, error)
            return False
        return True

    def _note(self, node: VljepaNode, message: Any, info: Mapping[str, Any]) -> None:
        self.frame_id = message.header.frame_id
        self._heard_s = time.monotonic()
        sequence = info.get('publication_sequence_number')
        if sequence is None or sequence == NO_SEQUENCE:
            return
        before, self._sequence = self._sequence, sequence
        if before is not None and sequence > before + 1:
            self._shared |= node.count_publishers(self.resolved) > 1  # one may have come just now
            if not self._shared:
                self.lost += sequence - before - 1
        if self._shared:
            self._sequence = None
