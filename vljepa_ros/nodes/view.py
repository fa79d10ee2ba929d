# SPDX-License-Identifier: Apache-2.0
"""view_node: overlay images, markers and scalars of a running stack, for viewers.

An overlay is drawn only while it has a subscriber: otherwise the node does not subscribe to the
images. Drawing runs in a thread of its own, which always takes the newest image.
"""

from __future__ import annotations

import array
import importlib
import time
from typing import Any

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32, Int64

from vljepa_ros.core.errors import InputError
from vljepa_ros.msg import SemanticEmbedding, TextEvent
from vljepa_ros.nodes import conversions, parameters, qos
from vljepa_ros.nodes.camera import CameraRegion
from vljepa_ros.nodes.camera_node import CameraNode
from vljepa_ros.nodes.image_topic import ImageTopic, PendingImage
from vljepa_ros.nodes.stack_listener import StackListener
from vljepa_ros.nodes.video_topic import topics_of
from vljepa_ros.runtime.model_pool import ModelPool
from vljepa_ros.view import overlay

SCALARS = ('change_score', 'confidence', 'unfamiliar', 'latency')
MAX_GAP_NS = 1_000_000_000
TEXT_M, DISTANCE_M = 0.1, 1.0  # height of a marker's letters, and its distance from the camera


def optional_type(package: str, name: str) -> Any:
    """Return a message class; None if its package is not installed."""
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except ImportError:
        return None


class ViewNode(CameraNode):
    """Lifecycle node that publishes the state of the stack for viewers."""

    specs = parameters.VIEW

    def __init__(self, pool: ModelPool | None = None, **options: Any) -> None:
        """Create the node; it needs no model."""
        self._cameras: dict[str, CameraRegion] = {}  # declaring parameters applies their values
        super().__init__('view_node', pool, **options)
        self.thread = self.pool.thread('view')
        self.problems |= parameters.declare(self, self.camera_specs())
        self._topics: tuple[ImageTopic, ...] = ()
        self._subscribed: set[ImageTopic] = set()
        self._out: dict[str, Any] = {}  # publishers by topic name
        self._listener: StackListener | None = None
        self._frame_ids: dict[str, str] = {}

    def setup(self) -> None:
        """Create the cameras and the publishers; those of missing message types are left out."""
        self._cameras = self.make_cameras()
        self._topics = topics_of(
            tuple(self._cameras.values()), MAX_GAP_NS, self.resolve_topic_name
        )
        self._quality = int(self.values()['jpeg_quality'])
        self._markers = optional_type('visualization_msgs', 'MarkerArray')
        for name in self._cameras:
            self._add(Image, self._name('view', name, 'overlay'), qos.STREAM)
            self._add(CompressedImage, self._name('view', name, 'overlay/compressed'), qos.STREAM)
            for scalar in SCALARS:
                self._add(Float32, self._name('view', name, scalar), qos.STREAM)
        self._add(Float32, 'view/watch_score', qos.STREAM)
        self._add(Int64, 'view/dropped_frames', qos.STREAM)
        if self._markers:
            self._add(self._markers, 'view/markers', qos.MODEL_INFO)

    def start(self) -> None:
        """Subscribe to the results of the stack, and to the images that are needed."""
        self._listener = StackListener(self, self.subscriber)
        self._listener.on_embedding = self._on_embedding
        self._listener.on_event = self._on_event
        self._update_subscriptions()

    def stop(self) -> None:
        """Unsubscribe from everything and wait until the last image is drawn."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for topic in tuple(self._subscribed):
            self._unsubscribe(topic)
        self.settle()

    def teardown(self) -> None:
        """Destroy the publishers."""
        while self._out:
            self.destroy_lifecycle_publisher(self._out.popitem()[1])
        self._cameras, self._topics = {}, ()

    def update_conditions(self) -> None:
        """Publish the slow values, and follow subscribers that appeared or disappeared."""
        self._update_subscriptions()
        for topic in self._subscribed:
            topic.update_conditions(self)
        if self._listener is None:
            return
        state = self._listener.state
        state.forget_silent(time.monotonic())
        self._out['view/dropped_frames'].publish(Int64(data=state.dropped_frames))
        for watch in state.watches.values():
            self._out['view/watch_score'].publish(Float32(data=watch.score))

    def on_runtime_change(self, values: dict[str, Any]) -> None:
        """Apply a new JPEG quality, or a new crop from the next image on."""
        self._quality = int(values.get('jpeg_quality', self.get_parameter('jpeg_quality').value))
        for camera in self._cameras.values():
            if f'{camera.name}.crop' in values:
                camera.set_crop(values[f'{camera.name}.crop'])

    def describe(self) -> dict[str, str]:
        """Return the number of drawn cameras and the optional outputs, for the diagnostics."""
        return {
            'image subscriptions': str(len(self._subscribed)),
            'outputs': ', '.join(sorted(self._out)),
        }

    # Images.

    def _update_subscriptions(self, _: Any = None) -> None:
        """Subscribe to the images whose overlay has a subscriber, and to no others."""
        for topic in self._topics:
            wanted = self.is_active and any(self._wanted(c.name) for c in topic.cameras)
            if wanted and topic not in self._subscribed:
                topic.subscribe(self, self._on_image, lambda topic, stamp_ns: None)
                self._subscribed.add(topic)
            elif not wanted and topic in self._subscribed:
                self._unsubscribe(topic)

    def _unsubscribe(self, topic: ImageTopic) -> None:
        topic.unsubscribe(self)
        self.thread.withdraw(topic.name)
        self._subscribed.discard(topic)

    def _wanted(self, camera: str) -> bool:
        return any(
            self._has_subscriber(self._name('view', camera, kind))
            for kind in ('overlay', 'overlay/compressed')
        )

    def _on_image(self, topic: ImageTopic, arrived: PendingImage) -> None:
        if self._listener is None:
            return
        now_s = time.monotonic()
        contents = {
            camera.name: overlay.content(self._listener.state, camera.name, now_s)
            for camera in topic.cameras
            if self._wanted(camera.name)
        }
        self.thread.offer(
            topic.name,
            arrived,
            lambda item: self.guarded(lambda: self._draw(topic, item, contents)),
        )

    def _draw(
        self, topic: ImageTopic, arrived: PendingImage, contents: dict[str, overlay.Overlay]
    ) -> None:
        """Draw and publish the overlays of one image; runs in the drawing thread."""
        try:
            image = topic.take(arrived)
        except InputError as error:
            topic.reject(self, error)
            return
        header = conversions.to_header(arrived.stamp_ns, topic.frame_id)
        for camera in topic.cameras:
            if camera.name not in contents:
                continue
            drawn = overlay.draw(camera.view(image).image, contents[camera.name])
            name = self._name('view', camera.name, 'overlay')
            if self._has_subscriber(name):
                height, width = drawn.shape[:2]
                data = array.array('B')
                data.frombytes(drawn.tobytes())
                self._out[name].publish(
                    Image(
                        header=header,
                        height=height,
                        width=width,
                        encoding='rgb8',
                        step=3 * width,
                        data=data,
                    )
                )
            if self._has_subscriber(f'{name}/compressed'):
                data = array.array('B')
                data.frombytes(overlay.to_jpeg(drawn, self._quality))
                self._out[f'{name}/compressed'].publish(
                    CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=data)
                )

    # Results.

    def _on_embedding(self, message: SemanticEmbedding) -> None:
        if self._listener is None or message.source not in self._cameras:
            return
        stream = self._listener.state.stream(message.source, message.prompt)
        values = (stream.score, stream.confidence, stream.unfamiliar, stream.latency_s)
        for scalar, value in zip(SCALARS, values):
            name = self._name('view', message.source, scalar)
            self._out[name].publish(Float32(data=value))

    def _on_event(self, message: TextEvent) -> None:
        self._frame_ids[message.source] = message.header.frame_id
        if self._listener is None or 'view/markers' not in self._out:
            return
        kind = optional_type('visualization_msgs', 'Marker')
        found = self._markers()
        for source, frame_id in self._frame_ids.items():
            rows = overlay.content(self._listener.state, source, time.monotonic()).captions
            marker = kind(ns=source, type=kind.TEXT_VIEW_FACING)
            marker.header.frame_id = frame_id  # stamp zero: RViz uses the newest transform
            marker.action = kind.ADD if rows else kind.DELETE
            marker.text = '\n'.join(row.text for row in rows)
            marker.pose.position.z, marker.scale.z = DISTANCE_M, TEXT_M
            marker.pose.orientation.w = 1.0
            marker.color.r = marker.color.g = marker.color.b = marker.color.a = 1.0
            found.markers.append(marker)
        self._out['view/markers'].publish(found)

    # Publishers.

    def _name(self, *parts: str) -> str:
        return '/'.join(parts)

    def _add(self, kind: Any, name: str, profile: Any) -> None:
        self._out[name] = self.publisher(kind, name, profile, self._update_subscriptions)

    def _has_subscriber(self, name: str) -> bool:
        return bool(self._out[name].get_subscription_count())
