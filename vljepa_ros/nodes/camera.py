# SPDX-License-Identifier: Apache-2.0
"""Subscription to the topic of one camera, with a stamp filter and counters of lost frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from vljepa_ros.core import types
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import COMPRESSED, RAW, check_crop
from vljepa_ros.nodes import qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.conversions import check_image_message, to_image, to_ns
from vljepa_ros.runtime.frame_loss import SPAN_S, FrameLoss
from vljepa_ros.stream.familiarity import UnfamiliarSpan
from vljepa_ros.stream.stamp_filter import StampFilter

WAITING_S = 5.0  # period of the warning that no images arrive
MESSAGES = {'raw': Image, 'compressed': CompressedImage}  # by transport
TYPES = {'raw': RAW, 'compressed': COMPRESSED}
REMEDY = (
    "large images of a best-effort camera are lost with the middleware's default settings: start "
    'the camera with FASTDDS_DEFAULT_PROFILES_FILE set to config/fastdds.xml of vljepa_ros, use '
    'image_transport:=compressed, or set the subscription to reliable with qos_overrides'
)
NO_SEQUENCE = 2**64 - 1  # sequence number if the middleware does not number its messages


def published_types(node: VljepaNode, topic: str) -> list[str]:
    """Return the message types of a topic's publishers, sorted."""
    return sorted({info.topic_type for info in node.get_publishers_info_by_topic(topic)})


@dataclass
class PendingImage:
    """A received image message that waits for the model thread."""

    message: Any
    stamp_ns: int
    reset_count: int
    arrived_s: float
    number: int  # consecutive; a missing number is a frame that this node dropped


class CameraInput:
    """One camera of perception_node: filters stamps on receipt and decodes images in `take`.

    `values`: parameter values by name, such as `<name>.topic`. `max_gap_ns`: a longer gap between
    stamps resets the camera.
    """

    def __init__(self, name: str, values: Mapping[str, Any], max_gap_ns: int) -> None:
        self.name = name
        self.topic: str = values[f'{name}.topic']
        self.transport: str = values[f'{name}.transport']
        self.degrees: int = values[f'{name}.rotate']
        self.crop = check_crop(values[f'{name}.crop'])
        # A reset counter that starts at the current time differs between processes.
        self.stamp_filter = StampFilter(max_gap_ns, time.time_ns())
        self.frame_id = ''
        self.unfamiliar = UnfamiliarSpan()
        self.lost = 0
        self._loss = FrameLoss()
        self.dropped = False  # frames were dropped since the last one that the model processed
        self._arrived = self._taken = 0  # numbers of the newest received and processed frames
        self._shared = False  # several publishers use the topic, each with its own numbering
        self._sequence: int | None = None
        self._subscription: Any = None
        self._on_message: Callable[[Any, Mapping[str, Any]], None]
        self._received_s = self._warned_s = time.monotonic()

    def subscribe(
        self,
        node: VljepaNode,
        on_image: Callable[[CameraInput, PendingImage], None],
        on_refused: Callable[[CameraInput, Any], None],
    ) -> None:
        """Subscribe to the image topic of the camera.

        Args:
            node: Node that owns the subscription.
            on_image: Called with this camera and each accepted image.
            on_refused: Called with this camera and the header of each rejected image.
        """
        self._received_s = self._warned_s = time.monotonic()
        self._loss = FrameLoss()
        self.unfamiliar = UnfamiliarSpan()

        def on_message(message: Any, info: Mapping[str, Any]) -> None:
            stamp_ns = to_ns(message.header.stamp)
            self._count_lost(node, message, info)
            decision = self.stamp_filter.admit(stamp_ns)
            if decision.message:
                node.report_problem(
                    f'{self.name}: irregular stamps', f'{self.name}: {decision.message}'
                )
            if not decision.accepted or not self._is_undamaged(node, message):
                on_refused(self, message.header)
                return
            self._arrived += 1
            arrived = PendingImage(
                message, stamp_ns, decision.reset_count, self._received_s, self._arrived
            )
            on_image(self, arrived)

        self._on_message = on_message
        self._subscribe_to(node, self._topic_to_use(node))

    def _subscribe_to(self, node: VljepaNode, name: str) -> None:
        self.unsubscribe(node)
        self.resolved, self._sequence = name, None
        self._subscription = node.subscriber(
            MESSAGES[self.transport], name, self._on_message, qos.IMAGE
        )

    def _topic_to_use(self, node: VljepaNode) -> str:
        """Return the full name of the topic that carries the images.

        Compressed images are on `<topic>/compressed`, as image_transport names it (also after
        remapping), or on `<topic>` itself if only that topic has a publisher of compressed images.
        """
        name: str = node.resolve_topic_name(self.topic)
        if self.transport != 'compressed' or name.endswith('/compressed'):
            return name
        usual = f'{name}/compressed'
        if node.count_publishers(usual) or COMPRESSED not in published_types(node, name):
            return usual
        return name

    def unsubscribe(self, node: VljepaNode) -> None:
        """Destroy the subscription, if there is one."""
        if self._subscription is not None:
            node.destroy_subscription(self._subscription)
            self._subscription = None

    def take(self, arrived: PendingImage) -> types.Image:
        """Decode, rotate and crop a received image; runs in the model thread.

        Raises:
            InputError: The image is damaged.
        """
        self.dropped |= arrived.number > self._taken + 1
        self._taken = arrived.number
        return to_image(arrived.message, self.degrees, self.crop)

    def reject(self, node: VljepaNode, error: InputError) -> None:
        """Count a damaged image and report it in the log and diagnostics of `node`."""
        self.stamp_filter.reject()
        node.report_problem(f'{self.name}: damaged images', f'{self.name}: {error}')

    def update_conditions(self, node: VljepaNode) -> None:
        """Warn if no images arrive, if many are lost, or if several publishers share the topic."""
        name = self._topic_to_use(node)
        if name != self.resolved:
            node.get_logger().info(f'{self.name}: subscribing to {name} ({self.transport})')
            self._subscribe_to(node, name)
        publishers = node.count_publishers(self.resolved)
        self._shared = publishers > 1
        node.condition(
            f'{self.name}: publishers',
            f'{publishers} publishers share {self.resolved}: frames may be mixed'
            if publishers > 1
            else '',
        )
        now = time.monotonic()
        share = self._loss.push(now, self.stamp_filter.received, self.lost)
        node.condition(
            f'{self.name}: lost frames',
            ''
            if share is None
            else f'{self.name}: only {share:.0%} of the frames published on {self.resolved} '
            f'arrived in {SPAN_S:g} s; unless this machine is overloaded, {REMEDY}',
        )
        silent = now - self._received_s >= WAITING_S
        text = ''
        if silent:
            cause = self._cause(node, publishers)
            text = f'waiting for images on {self.resolved} ({self.transport}): {cause}'
        node.health.condition(f'{self.name}: waiting', text)
        if silent and now - self._warned_s >= WAITING_S:
            self._warned_s = now
            node.get_logger().warning(text)

    def _cause(self, node: VljepaNode, publishers: int) -> str:
        """Return why no image arrives, with the remedy if it is known."""
        if not publishers:
            return 'the topic has no publisher'
        types = published_types(node, self.resolved)
        if TYPES[self.transport] in types:
            return (
                f'the topic has {publishers} publisher(s), but no image arrived for '
                f'{WAITING_S:g} s; if the QoS and the transport match, {REMEDY}'
            )
        other = next((name for name, found in TYPES.items() if found in types), '')
        remedy = f'; set {self.name}.transport to {other}' if other else ''
        return f'the topic carries {", ".join(types)}, not {TYPES[self.transport]}{remedy}'

    def describe(self) -> dict[str, str]:
        """Return the topic and the counters of this camera for the diagnostics."""
        stamp_filter, received = self.stamp_filter, self.stamp_filter.received
        sent = received + self.lost
        return {
            f'{self.name}: {name}': str(value)
            for name, value in {
                'topic': self.topic,
                'frames received': received,
                'frames lost before reception': self.lost,
                'share of frames received': f'{received / sent:.3f}' if sent else 'none yet',
                'dropped: stamp went back': stamp_filter.dropped_back,
                'dropped: stamp repeated': stamp_filter.dropped_still,
                'rejected images': stamp_filter.rejected,
                'resets': stamp_filter.resets,
                'size changes': stamp_filter.size_changes,
            }.items()
        }

    def _is_undamaged(self, node: VljepaNode, message: Any) -> bool:
        """Return whether an image passes the checks that need no decoding; report it otherwise."""
        try:
            check_image_message(message)
        except InputError as error:
            self.reject(node, error)
            return False
        return True

    def _count_lost(self, node: VljepaNode, message: Any, info: Mapping[str, Any]) -> None:
        self.frame_id = message.header.frame_id
        self._received_s = time.monotonic()
        sequence = info.get('publication_sequence_number')
        if sequence is None or sequence == NO_SEQUENCE:
            return
        before, self._sequence = self._sequence, sequence
        if before is not None and sequence > before + 1:
            # Another publisher may have appeared since the last check.
            self._shared |= node.count_publishers(self.resolved) > 1
            if not self._shared:
                self.lost += sequence - before - 1
        if self._shared:
            self._sequence = None
