# SPDX-License-Identifier: Apache-2.0
"""Query node with a scripted `predict` and a scripted stream."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

from helpers import fake_models
from helpers.node_harness import LATCHED, MS, START_NS, Bench, eventually, fake_pool, stamp
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from vljepa_ros.msg import Embedding, Look, Moment, SemanticChange, SemanticEmbedding, TextEvent
from vljepa_ros.srv import Predict, Query, Search

from vljepa_ros.core.errors import VljepaError
from vljepa_ros.core.protocols import Model
from vljepa_ros.nodes.query import QueryNode

NOW = START_NS + 10_000 * MS


def floats(color: str) -> array.array[float]:
    return array.array('f', fake_models.color_vector(color).tobytes())


def predict_color(color: str) -> Callable[[Predict.Request, Predict.Response], Predict.Response]:
    """Return a `predict` for one color."""

    def answer(request: Predict.Request, response: Predict.Response) -> Predict.Response:
        response.success, response.source = True, request.source or 'camera'
        response.header = Header(stamp=stamp(NOW))
        response.window_start = stamp(NOW - 700 * MS)
        response.model_id = fake_models.FACTS.model_id
        response.vectors = [Embedding(data=floats(color)) for _ in request.prompts]
        response.looks = [look(color, NOW - 700 * MS, NOW)]
        return response

    return answer


def look(color: str, start_ns: int, end_ns: int) -> Look:
    """Return the result for one prompt."""
    vectors = [Embedding(data=floats(color))]
    return Look(start=stamp(start_ns), end=stamp(end_ns), vectors=vectors)


def predict_error(
    error: VljepaError,
) -> Callable[[Predict.Request, Predict.Response], Predict.Response]:
    """Return a `predict` that fails with this error."""

    def answer(request: Predict.Request, response: Predict.Response) -> Predict.Response:
        response.success, response.message = False, str(error)
        response.error_code = int(error.code)
        return response

    return answer


class QueryHarness:
    """Query node with a scripted `predict`."""

    def __init__(
        self, bench: Bench, predict: Any = None, language: Any = None, **values: Any
    ) -> None:
        self.bench, self.predict_requests = bench, []  # type: ignore[var-annotated]
        if predict is not None:

            def record(request: Any, response: Any) -> Any:
                self.predict_requests.append(request)
                return predict(request, response)

            bench.probe.create_service(
                Predict,
                'predict',
                record,
                callback_group=ReentrantCallbackGroup(),
                qos_profile=QoSProfile(depth=256),
            )
        values.setdefault('watch_hops', 1)
        self.language = language or fake_models.FakeLanguage()
        pool = fake_pool(lambda: Model(fake_models.FACTS, None, self.language))
        self.node = bench.start(QueryNode, pool, **values)

    def ask(self, prompt: str = 'What?', **fields: Any) -> Query.Response:
        return self.bench.call(Query, 'query', Query.Request(prompt=prompt, **fields))

    def fill_memory(self) -> None:
        """Record red for two seconds and blue for two, with texts."""
        hops = self.bench.publisher(SemanticEmbedding, 'semantic_embedding')
        changes = self.bench.publisher(SemanticChange, 'semantic_change')
        events = self.bench.publisher(TextEvent, 'text_event', LATCHED)
        for n in range(20):
            hops.publish(hop('red' if n < 10 else 'blue', n))
        eventually(lambda: self.node.health.counts['embeddings'] == 20)
        common: dict[str, Any] = {
            'source': 'camera',
            'prompt': 'What?',
            'model_id': fake_models.FACTS.model_id,
            'session_id': 's',
        }
        changes.publish(
            SemanticChange(
                header=Header(stamp=stamp(START_NS + 2200 * MS)),
                segment_id=1,
                segment_start=stamp(START_NS + 2000 * MS),
                reason=SemanticChange.REASON_MEANING,
                vector=floats('blue'),
                has_previous=True,
                previous_segment_id=0,
                previous_start=stamp(START_NS),
                previous_end=stamp(START_NS + 2000 * MS),
                previous_vector=floats('red'),
                **common,
            )
        )
        eventually(lambda: len(self.stored_moments()) == 2)
        events.publish(TextEvent(segment_id=0, state=2, text='it was red', **common))
        eventually(lambda: any(moment.text for moment in self.stored_moments()))

    @property
    def watch_count(self) -> int:
        """Number of pending watches."""
        return int(self.node.describe()['watches'])

    def stored_moments(self) -> list[Moment]:
        return self.bench.call(Search, 'search', Search.Request(text='red')).moments


def hop(color: str, number: int, **changes: Any) -> SemanticEmbedding:
    newest = START_NS + number * 200 * MS
    message = SemanticEmbedding(
        header=Header(stamp=stamp(newest)),
        window_start=stamp(newest - 700 * MS),
        source='camera',
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        vector=floats(color),
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message
