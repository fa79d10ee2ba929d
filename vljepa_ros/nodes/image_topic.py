# SPDX-License-Identifier: Apache-2.0
"""Subscription to one image topic, with a stamp filter and counters of lost frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from vljepa_ros.core import types
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import TRANSPORTS
from vljepa_ros.nodes import conversions, qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.camera import CameraRegion
from vljepa_ros.runtime.frame_loss import SPAN_S, FrameLoss
from vljepa_ros.stream.familiarity import UnfamiliarSpan
from vljepa_ros.stream.stamp_filter import StampDecision, StampFilter

WAITING_S = 5.0  # period of the warning that no images arrive
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
    """A received image that waits for the model thread.

    `decode`: converts it to RGB. `message_ns`: stamp of the message, which is acknowledged; the
    stamp of the image differs from it if a video is reordered.
    """

    decode: Callable[[], types.Image]
    stamp_ns: int
    message_ns: int
    reset_count: int
    arrived_s: float
    number: int  # consecutive; a missing number is a frame that this node dropped


class ImageTopic:
    """Image topic of one or more cameras: filters stamps on receipt, and decodes in `take`."""

    profile: QoSProfile = qos.IMAGE

    def __init__(self, cameras: Sequence[CameraRegion], max_gap_ns: int) -> None:
        """Create a topic without subscription.

        Args:
            cameras: Cameras with the same topic and transport.
            max_gap_ns: A longer gap between stamps resets the cameras.

        Raises:
            InputError: The message type of the transport is not installed.
        """
        self.cameras = tuple(cameras)
        self.topic, self.transport = cameras[0].topic, cameras[0].transport
        self.name = ', '.join(camera.name for camera in cameras)
        self.type = conversions.image_type(self.transport)
        # A reset counter that starts at the current time differs between processes.
        self.stamp_filter = StampFilter(max_gap_ns, time.time_ns())
        self.frame_id = ''
        self.lost = 0
        self._loss = FrameLoss()
        self.dropped = False  # frames were dropped since the last one that the model processed
        self._arrived = self._taken = 0  # numbers of the newest received and processed frames
        self._shared = False  # several publishers use the topic, each with its own numbering
        self._sequence: int | None = None
        self._subscription: Any = None
        self._on_image: Callable[[ImageTopic, PendingImage], None]
        self._on_refused: Callable[[ImageTopic, int], None]
        self._received_s = self._warned_s = time.monotonic()

    def subscribe(
        self,
        node: VljepaNode,
        on_image: Callable[[ImageTopic, PendingImage], None],
        on_refused: Callable[[ImageTopic, int], None],
    ) -> None:
        """Subscribe to the topic.

        Args:
            node: Node that owns the subscription.
            on_image: Called with this topic and each accepted image.
            on_refused: Called with this topic and the stamp in ns of each rejected message.
        """
        self._on_image, self._on_refused = on_image, on_refused
        self._received_s = self._warned_s = time.monotonic()
        self._loss = FrameLoss()
        for camera in self.cameras:
            camera.unfamiliar = UnfamiliarSpan()
        self._subscribe_to(node, self._topic_to_use(node))

    def _subscribe_to(self, node: VljepaNode, name: str) -> None:
        self.unsubscribe(node)
        self.resolved, self._sequence = name, None

        def on_message(message: Any, info: Mapping[str, Any]) -> None:
            self._receive(node, message, info)

        self._subscription = node.subscriber(self.type, name, on_message, self.profile)

    def _receive(self, node: VljepaNode, message: Any, info: Mapping[str, Any]) -> None:
        header = conversions.header_of(message)
        self._count_lost(node, header, info)
        stamp_ns = conversions.to_ns(header.stamp)
        decision = self._admit(node, stamp_ns)
        if not decision.accepted or not self._is_undamaged(node, message):
            self._on_refused(self, stamp_ns)
            return
        self._arrived += 1
        arrived = PendingImage(
            lambda: conversions.to_image(message),
            stamp_ns,
            stamp_ns,
            decision.reset_count,
            self._received_s,
            self._arrived,
        )
        self._on_image(self, arrived)

    def _admit(self, node: VljepaNode, stamp_ns: int) -> StampDecision:
        """Pass a stamp to the stamp filter, and report it if it is irregular."""
        decision = self.stamp_filter.admit(stamp_ns)
        if decision.message:
            node.report_problem(
                f'{self.name}: irregular stamps', f'{self.name}: {decision.message}'
            )
        return decision

    def _topic_to_use(self, node: VljepaNode) -> str:
        """Return the full name of the topic that carries the images.

        Other transports than raw are on `<topic>/<transport>`, as image_transport names it (also
        after remapping), or on `<topic>` itself if only that topic has a publisher of their type.
        """
        name: str = node.resolve_topic_name(self.topic)
        if self.transport == 'raw' or name.endswith(f'/{self.transport}'):
            return name
        usual = f'{name}/{self.transport}'
        is_here = TRANSPORTS[self.transport] in published_types(node, name)
        return name if is_here and not node.count_publishers(usual) else usual

    def unsubscribe(self, node: VljepaNode) -> None:
        """Destroy the subscription, if there is one."""
        if self._subscription is not None:
            node.destroy_subscription(self._subscription)
            self._subscription = None

    def take(self, arrived: PendingImage) -> types.Image:
        """Decode a received image; runs in the model thread.

        Raises:
            InputError: The image is damaged.
        """
        self.dropped |= arrived.number > self._taken + 1
        self._taken = arrived.number
        return arrived.decode()

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
        if TRANSPORTS[self.transport] in types:
            return (
                f'the topic has {publishers} publisher(s), but no image arrived for '
                f'{WAITING_S:g} s; if the QoS and the transport match, {REMEDY}'
            )
        other = next((name for name, found in TRANSPORTS.items() if found in types), '')
        names = ', '.join(f'{camera.name}.transport' for camera in self.cameras)
        remedy = f'; set {names} to {other}' if other else ''
        return f'the topic carries {", ".join(types)}, not {TRANSPORTS[self.transport]}{remedy}'

    def describe(self) -> dict[str, str]:
        """Return the topic and the counters of every camera for the diagnostics."""
        stamp_filter, received = self.stamp_filter, self.stamp_filter.received
        sent = received + self.lost
        return {
            f'{camera.name}: {name}': str(value)
            for camera in self.cameras
            for name, value in {
                'topic': self.topic,
                'frames received': received,
                'frames lost before reception': self.lost,
                'share of frames received': f'{received / sent:.3f}' if sent else 'none yet',
                'dropped: stamp went back': stamp_filter.dropped_back,
                'dropped: stamp repeated': stamp_filter.dropped_still,
                'rejected images': stamp_filter.rejected,
                'resets': stamp_filter.resets + camera.crop_changes,
                'size changes': stamp_filter.size_changes,
            }.items()
        }

    def _is_undamaged(self, node: VljepaNode, message: Any) -> bool:
        """Return whether an image passes the checks that need no decoding; report it otherwise."""
        try:
            conversions.check_image_message(message)
        except InputError as error:
            self.reject(node, error)
            return False
        return True

    def _count_lost(self, node: VljepaNode, header: Header, info: Mapping[str, Any]) -> None:
        self.frame_id = header.frame_id
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
