# SPDX-License-Identifier: Apache-2.0
"""Test bench for nodes: each spins in its own thread; a probe publishes, subscribes and calls."""

from __future__ import annotations

import array
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from helpers import fake_models
from helpers.waiting import eventually
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vljepa_ros.core.protocols import Model
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.main import Spinner
from vljepa_ros.runtime.model_pool import ModelPool, ModelSpec

MS = 1_000_000
START_NS = 1_000_000_000_000
LATCHED = QoSProfile(
    depth=500, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
RELIABLE = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE)
numbers = itertools.count()


def fake_pool(model: Callable[[], Model] = fake_models.fake_model) -> ModelPool:
    """Return a pool that loads fakes; `loads` lists the loads."""
    loads: list[tuple[ModelSpec, tuple[str, ...]]] = []

    def load(spec: ModelSpec, parts: tuple[str, ...]) -> Model:
        loads.append((spec, parts))
        return model()

    pool = ModelPool(load=load, free=lambda: None)
    pool.loads = loads  # type: ignore[attr-defined]
    return pool


class Collected(list):
    """Messages of one topic, in the order of their arrival."""

    def wait(self, count: int, timeout_s: float = 30.0) -> list[Any]:
        """Wait for the first `count` messages."""
        try:
            eventually(lambda: len(self) >= count, timeout_s)
        except AssertionError:
            raise AssertionError(f'{len(self)} of {count} messages in {timeout_s} s') from None
        return self[:count]


class Bench:
    """Nodes and probe in one namespace; `close` ends them."""

    def __init__(self) -> None:
        self.namespace = f'/bench{next(numbers)}'
        self.probe = Node('probe', namespace=self.namespace)
        self._spinners: list[Any] = []
        self._publishers: list[Any] = []
        self._pools: list[ModelPool] = []
        self.spin(self.probe)
        self.diagnostics: list[DiagnosticStatus] = []
        self.probe.create_subscription(
            DiagnosticArray, '/diagnostics', lambda m: self.diagnostics.extend(m.status), RELIABLE
        )

    def spin(self, node: Node) -> None:
        """Spin a node in a thread of its own until `close`."""
        self._add(Spinner(node))  # type: ignore[arg-type]

    def _add(self, spinner: Spinner) -> None:
        self._spinners.append(spinner)
        spinner.start()

    def start(
        self,
        kind: type[VljepaNode],
        pool: ModelPool | None = None,
        up: bool = True,
        files: Sequence[Path] = (),
        **values: Any,
    ) -> Any:
        """Start a node with parameters (dots as __); configure and activate it if `up`.

        Parameter `files` count as they do in launch: the last one wins.
        """
        pool = pool or fake_pool()
        if pool not in self._pools:
            self._pools.append(pool)
        overrides = [Parameter(k.replace('__', '.'), value=v) for k, v in values.items()]
        given = [part for file in files for part in ('--params-file', str(file))]
        node = kind(
            pool,
            namespace=self.namespace,
            parameter_overrides=overrides,
            cli_args=['--ros-args', *given],
        )
        spinner = Spinner(node)
        self._add(spinner)
        if up:
            assert self.do(node, node.bring_up), 'the node did not come up'
        return node

    def do(self, node: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Run something in a node's executor, and wait for its result."""
        task = node.executor.create_task(function, *args)
        eventually(lambda: task.done() or task.cancelled(), 30.0, str(function))
        return task.result()

    def collect(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> Collected:
        """Collect a topic; returns once matched with a publisher, if there is one."""
        messages = Collected()
        made = self.probe.create_subscription(kind, topic, messages.append, qos)
        if self.probe.count_publishers(made.topic_name):
            eventually(lambda: made.get_publisher_count() > 0, what=f'{topic} is not matched')
        return messages

    def publisher(self, kind: type, topic: str, qos: QoSProfile = RELIABLE, to: int = 1) -> Any:
        """Create a publisher and wait for `to` subscriptions."""
        made = self.probe.create_publisher(kind, topic, qos)
        self._publishers.append(made)
        self.wait_for_match(made, to)
        return made

    def wait_for_match(self, publisher: Publisher, to: int = 1) -> None:
        """Wait until `to` subscriptions and the publisher have detected each other.

        A best-effort subscription that detects the publisher later loses messages. In other
        processes, this cannot be observed: see `publish_until_processed`.
        """
        topic = publisher.topic_name
        eventually(
            lambda: publisher.get_subscription_count() >= to, what=f'{topic} has no subscription'
        )
        publishers = self.probe.count_publishers(topic)
        subscriptions = [
            subscription
            for spinner in self._spinners
            for subscription in spinner.node.subscriptions
            if subscription.topic_name == topic
            and qos_check_compatible(publisher.qos_profile, subscription.qos_profile)[0]
            != QoSCompatibility.ERROR
        ]
        eventually(
            lambda: all(s.get_publisher_count() >= publishers for s in subscriptions),
            what=f'a subscription of {topic} is not matched',
        )

    def call(self, kind: type, name: str, request: Any, timeout_s: float = 30.0) -> Any:
        """Call a service."""
        client = self.probe.create_client(kind, name)
        try:
            assert client.wait_for_service(timeout_s), f'{name} is not available'
            future = client.call_async(request)
            eventually(future.done, timeout_s, f'{name} does not answer')
            return future.result()
        finally:
            self.probe.destroy_client(client)

    def action(self, kind: type, name: str) -> ActionClient:
        """Create an action client and wait for its server."""
        client = ActionClient(self.probe, kind, name)
        assert client.wait_for_server(30.0), f'{name} is not available'
        return client

    def status(self, node: Node, condition: Callable[[DiagnosticStatus], Any]) -> DiagnosticStatus:
        """Return the next diagnostic of a node that meets a condition."""
        name, begin = node.get_fully_qualified_name(), len(self.diagnostics)
        return eventually(
            lambda: next(
                (s for s in self.diagnostics[begin:] if s.name == name and condition(s)), None
            ),
            10.0,
            f'diagnostics of {name}',
        )

    def close(self) -> None:
        """End all nodes, after everything that they could wait for."""
        for publisher in self._publishers:
            self.do(self.probe, self.probe.destroy_publisher, publisher)
        end_s = time.monotonic() + 10
        for spinner in reversed(self._spinners):
            if isinstance(spinner.node, VljepaNode):
                spinner.stop(end_s)
            else:
                spinner.node.bring_down = lambda: None
                spinner.stop(end_s)
        for pool in self._pools:
            pool.stop()
        for spinner in self._spinners:
            spinner.executor.shutdown(timeout_sec=1.0)
            spinner.node.destroy_node()


def publish_until_processed(publisher: Publisher, processed: Collected, message: Image) -> None:
    """Publish an image until it is acknowledged on `frame_processed`.

    The subscription is best effort and may be in another process, which can detect the publisher
    later than the publisher detects it: the first messages may be lost.
    """
    for _ in range(5):
        publisher.publish(message)
        with contextlib.suppress(AssertionError):
            eventually(lambda: message.header.stamp in [h.stamp for h in processed], 3.0)
            return
    raise AssertionError(f'the image of {message.header.stamp} was not processed')


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """Return the values of a diagnostic by key."""
    return {item.key: item.value for item in status.values}


def stamp(stamp_ns: int) -> Time:
    """Return a ROS stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def image_message(color: str, stamp_ns: int, frame_id: str = 'lens') -> Image:
    """Return an rgb8 image of one color."""
    image = fake_models.solid_image(color)
    height, width = image.shape[:2]
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).tobytes())
    return Image(
        header=Header(stamp=stamp(stamp_ns), frame_id=frame_id),
        encoding='rgb8',
        height=height,
        width=width,
        step=3 * width,
        data=data,
    )
