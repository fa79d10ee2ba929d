# SPDX-License-Identifier: Apache-2.0
"""decoder_node: decodes messages of `semantic_change` to text and publishes `text_event`."""

from __future__ import annotations

import time
from typing import Any

from vljepa_ros.msg import SemanticChange, TextEvent
from vljepa_ros.nodes import conversions, parameters, qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.runtime.model_pool import ModelPool
from vljepa_ros.stream.text_events import EventWriter

LISTEN_ON_S = 2.0  # maximum wait for the last changes before the process ends
LOOK_AGAIN_S = 0.05  # period of the check whether change detection still has a publisher


class DecoderNode(VljepaNode):
    """Lifecycle node that runs the Y-Decoder on the vectors of changes."""

    specs = parameters.DECODER
    part = 'language'

    def __init__(self, pool: ModelPool | None = None, **options: Any) -> None:
        """Create the node; its model is loaded at configure."""
        super().__init__('decoder_node', pool, **options)
        self._writer: EventWriter | None = None
        self._subscription: Any = None

    def setup(self) -> None:
        """Create the event writer and the publisher of text events."""
        self._writer = EventWriter(self.lease.half)
        self._events = self.publisher(TextEvent, 'text_event', qos.EVENTS)

    def start(self) -> None:
        """Subscribe to `semantic_change`."""
        self._subscription = self.subscriber(
            SemanticChange, 'semantic_change', self._on_change, qos.STREAM
        )

    async def drain(self) -> None:
        """Receive changes until the publisher of `semantic_change` is gone, for at most 2 s.

        Ctrl-C stops both nodes at once, and change_detection_node publishes its last changes while
        it stops.
        """
        end_s = time.monotonic() + LISTEN_ON_S
        while self.is_active and time.monotonic() < end_s:
            if not self._subscription.get_publisher_count():
                return
            await self.sleep(LOOK_AGAIN_S)

    def stop(self) -> None:
        """Unsubscribe, then wait until all received changes are decoded and published."""
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        self.settle()

    def teardown(self) -> None:
        """Discard the event writer and destroy the publisher."""
        self._writer = None
        if hasattr(self, '_events'):
            self.retire(self._events)
            del self._events

    def describe(self) -> dict[str, str]:
        """Return the numbers of decoded vectors, text events and pending messages."""
        writer = self._writer
        return {
            'decodes': str(writer.decodes if writer else 0),
            'events': str(writer.written if writer else 0),
            'backlog': str(self.backlog),
        }

    def _on_change(self, message: SemanticChange) -> None:
        self.enqueue(self._write, message, time.monotonic())

    def _write(self, message: SemanticChange, arrived_s: float) -> None:
        """Decode a change and publish its text events; runs in the model thread."""
        assert self._writer is not None
        for event in self._writer.push(conversions.from_change_message(message)):
            self._events.publish(conversions.to_event_message(event, message.header.frame_id))
        self.health.output(time.monotonic() - arrived_s)
