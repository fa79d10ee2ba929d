# SPDX-License-Identifier: Apache-2.0
"""Subscription to a topic of video packets (H.264, H.265), which a thread decodes in order.

Every packet is decoded, because the following packets depend on it. Only the newest decoded image
waits for the model thread, as for other topics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from typing import Any

from rclpy.qos import QoSProfile

from vljepa_ros.core.errors import InputError, NoKeyFrameError
from vljepa_ros.core.images import TRANSPORTS, VIDEO
from vljepa_ros.nodes import conversions, qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.camera import CameraRegion
from vljepa_ros.nodes.image_topic import ImageTopic, PendingImage

MAX_PACKETS = 100  # packets that wait for the decoder


class VideoTopic(ImageTopic):
    """Video topic of one or more cameras. Decoding starts at a key frame."""

    profile: QoSProfile = qos.VIDEO

    def __init__(self, cameras: Sequence[CameraRegion], max_gap_ns: int) -> None:
        """Create a topic without subscription, see `ImageTopic`."""
        super().__init__(cameras, max_gap_ns)
        from vljepa_ros.sources.video_decoder import VideoDecoder

        self._decoder = VideoDecoder()
        self._thread: ThreadPoolExecutor | None = None
        self._space = BoundedSemaphore(MAX_PACKETS)
        self._newest_ns = -1  # stamp of the newest received packet
        self._is_cut = False  # packets were lost since the last one that was queued

    def _subscribe_to(self, node: VljepaNode, name: str) -> None:
        super()._subscribe_to(node, name)
        self._thread = ThreadPoolExecutor(1, f'decoder of {self.name}')
        self._space = BoundedSemaphore(MAX_PACKETS)
        self._newest_ns, self._is_cut = -1, True

    def unsubscribe(self, node: VljepaNode) -> None:
        """Destroy the subscription, if there is one, and drop the packets that are not decoded."""
        super().unsubscribe(node)
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def _receive(self, node: VljepaNode, message: Any, info: Mapping[str, Any]) -> None:
        header, lost = conversions.header_of(message), self.lost
        self._count_lost(node, header, info)
        stamp_ns = conversions.to_ns(header.stamp)
        if self.lost > lost:
            self._cut(node, f'{self.lost - lost} packets were lost')
        is_repeated, self._newest_ns = stamp_ns == self._newest_ns, stamp_ns
        if is_repeated or not self._space.acquire(blocking=False):
            if not is_repeated:  # the player sends a packet again if it was not acknowledged
                self._cut(node, 'packets were dropped, because the decoder is too slow')
            self._submit(node, partial(self._refuse, stamp_ns))
            return
        is_cut, self._is_cut = self._is_cut, False
        self._submit(
            node, partial(self._decode, node, message, stamp_ns, is_cut, self._received_s)
        )

    def _submit(self, node: VljepaNode, work: Callable[[], None]) -> None:
        """Queue work of the decoder's thread, which alone uses the stamp filter."""
        if self._thread is not None:
            self._thread.submit(node.guarded, work)

    def _cut(self, node: VljepaNode, what: str) -> None:
        self._is_cut = True
        node.report_problem(
            f'{self.name}: lost packets', f'{self.name}: {what}: continuing at the next key frame'
        )

    def _decode(
        self, node: VljepaNode, message: Any, stamp_ns: int, is_cut: bool, arrived_s: float
    ) -> None:
        """Decode a packet and pass its image on; runs in the decoder's thread."""
        self._space.release()
        if is_cut:
            self._decoder.interrupt()
        was_decoding = self._decoder.is_decoding
        passed = False
        try:
            for frame in self._decoder.push(conversions.to_video_packet(message)):
                passed |= self._pass_on(node, frame.image, frame.stamp_ns, stamp_ns, arrived_s)
        except NoKeyFrameError:
            self._refuse(stamp_ns)
            return
        except InputError as error:
            self._decoder.interrupt()  # the next packets state differences from this image
            self._refuse(stamp_ns)
            node.report_problem(f'{self.name}: damaged images', f'{self.name}: {error}')
            return
        if self._decoder.is_decoding and not was_decoding:
            node.get_logger().info(
                f'{self.name}: decoding starts at the key frame with stamp {stamp_ns / 1e9:.3f} s'
                f', after {self._decoder.skipped} skipped packets'
            )
        if not passed:
            self._on_refused(self, stamp_ns)

    def _refuse(self, stamp_ns: int) -> None:
        """Register the stamp of a packet that is not decoded, so that it is not a gap."""
        if self.stamp_filter.admit(stamp_ns).accepted:
            self.stamp_filter.reject()
        self._on_refused(self, stamp_ns)

    def _pass_on(
        self, node: VljepaNode, decode: Any, stamp_ns: int, message_ns: int, arrived_s: float
    ) -> bool:
        """Pass a decoded image to the model thread; return whether its stamp was accepted."""
        decision = self._admit(node, stamp_ns)
        if decision.accepted:
            self._arrived += 1
            reset_count = decision.reset_count
            self._on_image(
                self,
                PendingImage(decode, stamp_ns, message_ns, reset_count, arrived_s, self._arrived),
            )
        return decision.accepted

    def update_conditions(self, node: VljepaNode) -> None:
        """Warn as `ImageTopic` does, and while no key frame arrives."""
        super().update_conditions(node)
        skipped = 0 if self._decoder.is_decoding else self._decoder.skipped
        node.condition(
            f'{self.name}: key frame',
            f'{self.name}: waiting for a key frame of the video, packets are skipped; if it stays '
            'so, let the encoder send key frames more often (gop_size)'
            if skipped
            else '',
        )


def topics_of(
    cameras: Sequence[CameraRegion], max_gap_ns: int, resolve: Callable[[str], str]
) -> tuple[ImageTopic, ...]:
    """Return the topics of cameras; cameras with the same topic and transport share one.

    Args:
        cameras: All cameras of the node.
        max_gap_ns: A longer gap between stamps resets the cameras of a topic.
        resolve: Function that returns the full name of a topic.

    Raises:
        InputError: The message type of a transport, or the video decoder, is not installed.
    """
    groups: dict[tuple[str, str], list[CameraRegion]] = {}
    for camera in cameras:
        groups.setdefault((resolve(camera.topic), camera.transport), []).append(camera)
    return tuple(
        (VideoTopic if TRANSPORTS[transport] in VIDEO else ImageTopic)(group, max_gap_ns)
        for (_, transport), group in groups.items()
    )
