# SPDX-License-Identifier: Apache-2.0
"""change_detection_node: segments `semantic_embedding` and publishes `semantic_change`.

Only the streams that the newest `model_info` names are segmented; a new `model_info` ends all
others. ROS does not order messages of different topics, so embeddings of an ended stream can
still arrive: they are ignored and do not reopen it. After activation, every stream is segmented
until the first `model_info`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from vljepa_ros.core.errors import VljepaError
from vljepa_ros.core.types import Change, StreamKey
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding
from vljepa_ros.nodes import conversions, parameters, qos
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.runtime.model_pool import ModelPool
from vljepa_ros.stream.segmenter import Segmenter

SESSION_ID = uuid.uuid4().hex  # one per process start


class ChangeDetectionNode(VljepaNode):
    """Lifecycle node that runs the segmenter; it needs no model."""

    specs = parameters.CHANGE_DETECTION

    def __init__(
        self, pool: ModelPool | None = None, session_id: str = SESSION_ID, **options: Any
    ) -> None:
        """Create the node.

        Args:
            pool: Model pool of the process (unused).
            session_id: Identifier of this process start; segment ids are unique within a session.
            options: Keyword arguments of rclpy's Node.
        """
        super().__init__('change_detection_node', pool, **options)
        self._session_id = session_id
        self._next_id: dict[StreamKey, int] = {}  # for the whole session: not reset by cleanup
        self._segmenter: Segmenter | None = None
        self._standing: frozenset[StreamKey] | None = None  # None: no model_info received yet
        self._subscriptions_made: list[Any] = []
        self._frame_ids: dict[str, str] = {}  # source -> frame_id of the newest header
        self._model_ids: dict[tuple[str, str], str] = {}  # source, prompt -> model_id

    def setup(self) -> None:
        """Create the segmenter and the publisher of changes."""
        settings = parameters.segmenter_settings(self.values())
        self._segmenter = Segmenter(settings, self._session_id, self._next_id)
        self._changes = self.publisher(
            SemanticChange, 'semantic_change', qos.STREAM, self._on_matched
        )

    def start(self) -> None:
        """Subscribe to `model_info` and `semantic_embedding`."""
        self._standing = None
        self._subscriptions_made = [
            self.subscriber(ModelInfo, 'model_info', self._on_model_info, qos.MODEL_INFO),
            self.subscriber(
                SemanticEmbedding, 'semantic_embedding', self._on_embedding, qos.STREAM
            ),
        ]

    def stop(self) -> None:
        """Unsubscribe, then end every open stream and publish the last changes."""
        while self._subscriptions_made:
            self.destroy_subscription(self._subscriptions_made.pop())
        if self._segmenter is not None:
            self._publish(self._segmenter.end())

    def teardown(self) -> None:
        """Discard the state of all streams and destroy the publisher."""
        self._segmenter = None
        self._frame_ids, self._model_ids = {}, {}
        if hasattr(self, '_changes'):
            self.retire(self._changes)
            del self._changes

    def describe(self) -> dict[str, str]:
        """Return the number of changes and the session id for the diagnostics."""
        changes = self._segmenter.changes if self._segmenter else 0
        return {'changes': str(changes), 'session': self._session_id}

    def _on_matched(self, matched: Any) -> None:
        """Publish the opening changes of open segments again for late-joining subscribers."""
        if matched.total_count_change > 0 and self.is_active and self._segmenter is not None:
            self._publish(self._segmenter.opened())

    def _on_model_info(self, message: ModelInfo) -> None:
        assert self._segmenter is not None
        standing = self._standing = conversions.streams_of(message)
        self._publish(self._segmenter.end(lambda key: key not in standing))

    def _on_embedding(self, message: SemanticEmbedding) -> None:
        began_s = time.monotonic()
        assert self._segmenter is not None
        self.health.count('embeddings')
        try:
            embedding = conversions.from_embedding_message(message)
            self._frame_ids[message.source] = message.header.frame_id
            self._note_model(message)
            if self._standing is not None and embedding.key not in self._standing:
                self.health.count('embeddings of unknown streams')
                return
            if self._segmenter.is_repeated(embedding):
                self.health.count('embeddings without a new frame')
                return
            changes = self._segmenter.push(embedding)
        except VljepaError as error:
            self.report_problem('invalid embeddings', error)
            return
        self._publish(changes)
        self.health.output(time.monotonic() - began_s)

    def _publish(self, changes: Iterable[Change]) -> None:
        for change in changes:
            frame_id = self._frame_ids.get(change.key.source, '')
            self._changes.publish(conversions.to_change_message(change, frame_id))

    def _note_model(self, message: SemanticEmbedding) -> None:
        name = (message.source, message.prompt)
        before = self._model_ids.setdefault(name, message.model_id)
        if before != message.model_id:
            self._model_ids[name] = message.model_id
            self.report_problem(
                'models changed',
                f"the model of the embeddings of '{message.source}' changed from '{before}' to "
                f"'{message.model_id}': treating them as a separate stream",
            )
