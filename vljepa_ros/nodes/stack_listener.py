# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that keep a `StackState` up to date, for view_node and `vljepa top`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from vljepa_ros.action import Watch
from vljepa_ros.core.errors import VljepaError
from vljepa_ros.msg import SemanticChange, SemanticEmbedding, TextEvent
from vljepa_ros.nodes import conversions, qos
from vljepa_ros.view.stack_state import StackState

DIAGNOSTICS = QoSProfile(depth=50)
Subscribe = Callable[[type, str, Callable[..., None], QoSProfile], Any]


class StackListener:
    """Subscriptions of one node to the stack in its namespace.

    `on_embedding` and `on_event` are called after the state has been updated.
    """

    def __init__(self, node: Node, subscribe: Subscribe) -> None:
        """Subscribe with the function `subscribe` of a node."""
        self.state = StackState()
        self.on_embedding: Callable[[SemanticEmbedding], None] = _ignore
        self.on_event: Callable[[TextEvent], None] = _ignore
        self._node = node
        self._subscriptions = [
            subscribe(SemanticEmbedding, 'semantic_embedding', self._embedding, qos.STREAM),
            subscribe(SemanticChange, 'semantic_change', self._change, qos.STREAM),
            subscribe(TextEvent, 'text_event', self._event, qos.EVENTS),
            subscribe(
                Watch.Impl.FeedbackMessage, 'watch/_action/feedback', self._watch, qos.STREAM
            ),
            subscribe(DiagnosticArray, '/diagnostics', self._diagnostics, DIAGNOSTICS),
        ]

    def close(self) -> None:
        """Destroy the subscriptions."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _embedding(self, message: SemanticEmbedding) -> None:
        latency_s = conversions.to_ns(message.latency) / 1e9
        self.state.on_embedding(
            message.source, message.prompt, latency_s, message.unfamiliar, time.monotonic()
        )
        self.on_embedding(message)

    def _change(self, message: SemanticChange) -> None:
        self.state.on_change(message.source, message.prompt, message.score)

    def _event(self, message: TextEvent) -> None:
        try:
            event = conversions.from_event_message(message)
        except VljepaError as error:
            self._node.get_logger().warning(f'text event ignored: {error}')
            return
        self.state.on_event(event)
        self.on_event(message)

    def _watch(self, message: Any) -> None:
        goal = bytes(message.goal_id.uuid).hex()[:8]
        self.state.on_watch(goal, message.feedback.score, time.monotonic())

    def _diagnostics(self, message: DiagnosticArray) -> None:
        space = self._node.get_namespace().rstrip('/')
        for status in message.status:
            if status.name.rpartition('/')[0] == space:
                level = status.level[0] if isinstance(status.level, bytes) else status.level
                values = {item.key: item.value for item in status.values}
                self.state.on_diagnostics(
                    status.name, level, status.message, values, time.monotonic()
                )


def _ignore(message: Any) -> None:
    """Do nothing with a message."""
