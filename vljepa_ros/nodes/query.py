# SPDX-License-Identifier: Apache-2.0
"""query_node: serves the services `query` and `search` and the action `watch`.

For a question, the node requests answer embeddings from the service `predict` of perception_node.
The text side of the model converts embeddings to texts, rankings and scores in the model thread,
which also owns the memory of the streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future

from vljepa_ros.action import Watch
from vljepa_ros.core.errors import (
    BusyError,
    DiskFullError,
    ErrorCode,
    InputError,
    InternalError,
    ModelMismatchError,
    NotStoredError,
    UnavailableError,
    VljepaError,
    error_of,
)
from vljepa_ros.core.protocols import ModelFacts, check_readable
from vljepa_ros.core.types import AbstainReason, Embedding, EvaluatedSpan, Moment, Vector
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.segment_store import Store
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding, TextEvent
from vljepa_ros.nodes import conversions, parameters, qos
from vljepa_ros.nodes.base import NO_CLOCK, VljepaNode
from vljepa_ros.nodes.model_requests import LOOK_BACK_S, describe_error
from vljepa_ros.query.answerer import Answerer
from vljepa_ros.query.service import QueryService
from vljepa_ros.query.watch_condition import Condition
from vljepa_ros.runtime.model_pool import ModelPool
from vljepa_ros.srv import Predict, Query, Search

DEFAULT_LIMIT = 10
GRACE_S = 0.5  # time added to a timeout for the transport of the response
LOOK_AGAIN_S = 0.05  # polling period while `predict` is not available
# Error codes and messages of a Watch that ends without firing.
DEACTIVATED = (ErrorCode.INACTIVE, 'query_node was deactivated')
SHOWN_WATCHES = 10  # conditions in the diagnostics
TIMEOUT = (ErrorCode.TIMEOUT, 'the condition was not met before the timeout')
TIMEOUT_WITHOUT_CLOCK = (
    ErrorCode.TIMEOUT,
    f'the condition was not met before the timeout, counted by the steady clock: {NO_CLOCK}',
)
CANCELED = (ErrorCode.CANCELED, 'canceled')
TEXTS_AT_ONCE = 64  # texts that are encoded in one call of the model thread


@dataclass
class _PendingWatch:
    """A Watch goal and its condition.

    The future `ended` results in the moment at which the condition fired, or in None; `code` and
    `message` then give the reason.
    """

    goal: Any
    condition: Condition
    ended: Future = field(default_factory=Future)
    code: ErrorCode = ErrorCode.OK
    message: str = ''

    def fire(self, moment: Moment) -> None:
        """End the watch with the moment that met its condition, unless it has already ended."""
        if not self.ended.done():
            self.ended.set_result(moment)

    def end(self, code: ErrorCode, message: str) -> None:
        """End the watch without firing, unless it has already ended."""
        if not self.ended.done():
            self.code, self.message = code, message
            self.ended.set_result(None)


class QueryNode(VljepaNode):
    """Lifecycle node that serves `query`, `search` and `watch` with the text side of the model."""

    specs = parameters.QUERY
    part = 'language'

    def __init__(self, pool: ModelPool | None = None, **options: Any) -> None:
        """Create the node, with its services and its action; the model is loaded at configure."""
        super().__init__('query_node', pool, **options)
        self._memory: Memory | None = None
        self._service: QueryService | None = None
        self._sources: tuple[str, ...] = ()  # written by the model thread, replaced as a whole
        self._stored_bytes = self._file_bytes = 0
        self._cameras: tuple[str, ...] | None = None  # None: no model_info received yet
        self._subscriptions_made: list[Any] = []
        self._watched: list[_PendingWatch] = []
        deep = qos.service(self.get_parameter('service_depth').value)
        self._predict = self.create_client(
            Predict, 'predict', qos_profile=deep, callback_group=self.group
        )
        self._predict_name = self.resolve_service_name('predict')
        for kind, name, callback in (
            (Query, 'query', self._on_query),
            (Search, 'search', self._on_search),
        ):
            self.create_service(  # type: ignore[misc]  # rclpy awaits the callback
                kind, name, callback, qos_profile=deep, callback_group=self.group
            )
        self._watch_server = ActionServer(
            self,
            Watch,
            'watch',
            self._watch,
            callback_group=self.group,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            goal_service_qos_profile=deep,
            result_service_qos_profile=deep,
            cancel_service_qos_profile=deep,
            feedback_pub_qos_profile=deep,
        )

    def open_storage(self, facts: ModelFacts, values: dict[str, Any]) -> Memory:
        """Open the memory: the file `memory_path`, or RAM without a path or on a full disk."""
        settings, path = parameters.memory_settings(values), values['memory_path']
        try:
            store = Store(Path(path).expanduser()) if path else None
        except DiskFullError as error:
            return Memory(facts.model_id, settings, None, str(error), self.now_ns)
        return Memory(facts.model_id, settings, store, now=self.now_ns)

    def setup(self) -> None:
        """Create the query service on the opened memory."""
        values = self.values()
        self._memory = memory = self.storage
        self._timeout_s: float = values['predict_timeout']
        self._watch_threshold: float = values['watch_threshold']
        self._watch_hops: int = values['watch_hops']
        self._sources = memory.sources
        if memory.foreign:
            self.get_logger().info(
                f'{values["memory_path"]}: {memory.foreign} streams are of other models; they are '
                'kept, but not searched'
            )
        answerer = Answerer(self.lease.half, parameters.answer_settings(values))
        self._service = QueryService(answerer, memory)

    def start(self) -> None:
        """Subscribe to `model_info` and to the embeddings, changes and events to be recorded."""
        assert self._memory is not None
        memory = self._memory
        self._cameras = None
        for kind, name, profile, record in (
            (ModelInfo, 'model_info', qos.MODEL_INFO, self._on_model_info),
            (SemanticEmbedding, 'semantic_embedding', qos.STREAM, self._on_embedding),
            (
                SemanticChange,
                'semantic_change',
                qos.STREAM,
                self._recorder(lambda m: memory.change(conversions.from_change_message(m))),
            ),
            (
                TextEvent,
                'text_event',
                qos.EVENTS,
                self._recorder(lambda m: memory.event(conversions.from_event_message(m))),
            ),
        ):
            self._subscriptions_made.append(self.subscriber(kind, name, record, profile))

    def stop(self) -> None:
        """Unsubscribe, end all watches, and wait until the model thread has emptied its queue."""
        while self._subscriptions_made:
            self.destroy_subscription(self._subscriptions_made.pop())
        for watched in self._watched:
            watched.end(*DEACTIVATED)
        self.enqueue(self._commit)
        self.settle()

    def teardown(self) -> None:
        """Discard the query service and the closed memory; its file remains on disk."""
        self._memory = self._service = None
        self._sources = ()

    def update_conditions(self) -> None:
        """Commit the memory and end watches on unknown cameras.

        Until the first `model_info`, the cameras of watches cannot be verified, which is reported.
        """
        self.enqueue(self._commit)
        unknown = sorted({w.condition.source for w in self._watched} - {''})
        if unknown and self._cameras is None:
            self.report_problem(
                'watches without model_info',
                'no model_info received yet: cannot verify the sources of watches: '
                + ', '.join(unknown),
            )
        for watched in self._watched:
            try:
                self._check_source(watched.condition.source)
            except InputError as error:
                watched.end(error.code, str(error))

    def describe(self) -> dict[str, str]:
        """Return counters of the memory, watches and message queue for the diagnostics."""
        watches = {
            f'watch {bytes(watched.goal.goal_id.uuid).hex()[:8]}': watched.condition.text
            for watched in tuple(self._watched)[:SHOWN_WATCHES]
        }
        return watches | {
            'stored sources': ', '.join(self._sources),
            'stored bytes': f'{self._stored_bytes:,}',
            'bytes of the file and its log': f'{self._file_bytes:,}',
            'streams of other models': str(self._memory.foreign if self._memory else 0),
            'watches': str(len(self._watched)),
            'backlog': str(self.backlog),
            'predict available': str(self._predict.service_is_ready()),
        }

    # The stream.

    def _recorder(self, record: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda message: self.enqueue(record, message)

    def _on_embedding(self, message: SemanticEmbedding) -> None:
        self.health.count('embeddings')
        watched = [w.condition for w in self._watched if w.condition.concerns(message.source)]
        texts = tuple(dict.fromkeys(condition.text for condition in watched))
        self.enqueue(self._record, message, texts)

    def _record(self, message: SemanticEmbedding, texts: tuple[str, ...]) -> None:
        """Record an embedding and score the watched conditions; runs in the model thread.

        Args:
            message: SemanticEmbedding message.
            texts: Conditions of the watches on its camera, without duplicates.
        """
        assert self._memory is not None
        embedding = conversions.from_embedding_message(message)
        self._memory.record(embedding)
        self._sources = self._memory.sources
        scores: dict[str, float] = {}
        for text in texts:  # one call per text, so that an error does not affect other texts
            self.guarded(partial(self._score, embedding.vector, text, scores))
        if scores:
            self.post(self._update_watches, embedding, scores)

    def _score(self, vector: Vector, text: str, scores: dict[str, float]) -> None:
        scores[text] = float(self.lease.half.similarity(vector[None], text)[0])

    def _commit(self) -> None:
        """Commit the memory to its file; runs in the model thread once a second."""
        if self._memory is not None:
            self._memory.commit()
            self._stored_bytes = self._memory.held_bytes
            self._file_bytes = self._memory.file_bytes
            self.condition('memory', self._memory.problem)

    # Questions.

    async def _on_query(self, request: Query.Request, response: Query.Response) -> Query.Response:
        began_s = time.monotonic()
        response.abstained = True  # until there is an answer: planners may check only this field
        await self.serve(response, lambda: self._answer(request, response))
        if response.error_code in (ErrorCode.NOT_STORED, ErrorCode.NO_FRAME):
            response.abstain_reason = int(AbstainReason.NOT_SEEN)
        latency_s = time.monotonic() - began_s
        response.latency = conversions.to_duration(round(latency_s * 1e9))
        self.health.output(latency_s)
        return response

    async def _answer(self, request: Query.Request, response: Query.Response) -> None:
        assert self._service is not None
        conversions.check_supported(request)
        question = conversions.from_query(request)
        question.check()
        for first in range(0, len(question.candidates), TEXTS_AT_ONCE):
            part = question.candidates[first : first + TEXTS_AT_ONCE]
            await self.in_thread(self.lease.half.encode, part)  # the encodings are cached
        patience_s = self._timeout_s
        if question.is_about_the_past:
            patience_s = max(patience_s, LOOK_BACK_S + GRACE_S)
        try:
            source, seen = await self._ask_predict(request, patience_s)
        except (NotStoredError, BusyError) as error:
            answer = await self.in_thread(self._service.recall, question, error)
        else:
            answer = await self.in_thread(self._service.answer, question, source, seen)
        conversions.fill_answer(response, answer)

    async def _ask_predict(
        self, request: Query.Request, patience_s: float
    ) -> tuple[str, list[EvaluatedSpan]]:
        """Call `predict` for a question and return its camera and its evaluated spans.

        Args:
            request: Query request.
            patience_s: Timeout, at least the parameter `predict_timeout`. It includes the wait
                until the service is available.

        Raises:
            BusyError: `predict` is not available or did not respond in time.
            VljepaError: `predict` failed or uses another model.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while not self._predict.service_is_ready():
            if time.monotonic() >= deadline_s:
                raise UnavailableError(
                    f'no node serves {self._predict_name} (waited {self._timeout_s:g} s)'
                )
            await self.sleep(min(LOOK_AGAIN_S, self._timeout_s))
        future = self._predict.call_async(
            Predict.Request(
                source=request.source,
                prompts=[request.prompt],
                start=request.start,
                end=request.end,
            )
        )
        deadline_s += patience_s - self._timeout_s
        if not await self.within(future, deadline_s - time.monotonic()):
            self._predict.remove_pending_request(future)
            raise UnavailableError(
                f'no answer in time: {self._predict_name} did not answer within {patience_s:g} s, '
                'including the wait for the service'
            )
        return self._checked(future.result())

    def _checked(self, found: Predict.Response) -> tuple[str, list[EvaluatedSpan]]:
        if not found.success:
            raise error_of(found.error_code, found.message)
        ours = self.lease.facts.model_id
        if found.model_id != ours:
            raise ModelMismatchError(
                f"predict uses model '{found.model_id}', but query_node uses '{ours}': "
                'their vectors cannot be compared; set the parameter model to the same value'
            )
        if not found.looks:
            raise InternalError(
                f'the response of {self._predict_name} contains no embeddings (looks is empty)'
            )
        return found.source, [conversions.from_look(look) for look in found.looks]

    async def _on_search(
        self, request: Search.Request, response: Search.Response
    ) -> Search.Response:
        return await self.serve(response, lambda: self._search(request, response))

    async def _search(self, request: Search.Request, response: Search.Response) -> None:
        assert self._memory is not None and self._service is not None
        conversions.check_supported(request)
        moments = await self.in_thread(
            self._memory.search,
            self.lease.half,
            request.text,
            request.source,
            conversions.to_ns(request.start),
            conversions.to_ns(request.end),
            request.limit or DEFAULT_LIMIT,
        )
        response.model_id = self.lease.facts.model_id
        response.moments = [conversions.to_moment(moment) for moment in moments]
        response.message = self._service.others

    # Watching.

    def _on_goal(self, goal: Watch.Goal) -> GoalResponse:
        try:
            if not self.is_active:
                raise self.inactive()
            if len(self._watched) >= self.max_waiting:
                raise BusyError(f'busy: {len(self._watched)} watches are pending')
        except BusyError as error:
            self.report_problem('goals refused', f'watch refused: {error}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT  # an invalid goal is aborted: a rejection has no error code

    def _condition(self, goal: Watch.Goal) -> Condition:
        threshold = goal.threshold or self._watch_threshold
        return Condition(goal.condition, threshold, goal.until_not, goal.source, self._watch_hops)

    def _checked_condition(self, goal: Watch.Goal) -> Condition:
        """Return the condition of a goal. Raises InputError if the goal is invalid."""
        conversions.check_supported(goal)
        condition = self._condition(goal)
        self.lease.half.check(condition.text)
        self._check_source(goal.source)
        timeout_s = conversions.to_ns(goal.timeout) / 1e9
        if timeout_s < 0:
            raise InputError(f'timeout ({timeout_s:g} s) is negative')
        return condition

    def _check_readable(self, watched: _PendingWatch) -> None:
        """End a watch if the model cannot read its condition; runs in the model thread."""
        try:
            check_readable(self.lease.half, watched.condition.text, 'condition')
        except InputError as error:
            self.post(watched.end, error.code, str(error))

    def _check_source(self, source: str) -> None:
        if source and self._cameras is not None and source not in self._cameras:
            known = ', '.join(self._cameras)
            raise InputError(f"unknown source '{source}' (known: {known})")

    def _on_model_info(self, message: ModelInfo) -> None:
        self._cameras = tuple(message.sources)
        self.update_conditions()

    def _on_cancel(self, goal: Any) -> CancelResponse:
        for watched in self._watched:
            if watched.goal.goal_id == goal.goal_id:
                self.post(watched.end, *CANCELED)  # after rclpy has recorded the request
        return CancelResponse.ACCEPT

    async def _watch(self, goal: Any) -> Watch.Result:
        try:
            condition = self._checked_condition(goal.request)
        except Exception as error:
            return self._abort(goal, error)
        watched = _PendingWatch(goal, condition)
        timeout_ns = conversions.to_ns(goal.request.timeout)
        timer = self._timeout_timer(watched, timeout_ns / 1e9) if timeout_ns > 0 else None
        self._watched.append(watched)
        self.enqueue(self._check_readable, watched)
        if not self.is_active:
            watched.end(*DEACTIVATED)
        if goal.is_cancel_requested:  # before the goal was added to the watches
            watched.end(*CANCELED)
        try:
            moment = await watched.ended
        finally:
            self._watched.remove(watched)
            if timer is not None:
                self.destroy_timer(timer)
        return self._finish(watched, moment)

    def _timeout_timer(self, watched: _PendingWatch, timeout_s: float) -> Any:
        """Create the timer that ends a watch.

        It counts ROS time, so that a watch does not time out in a paused bag. Without /clock, ROS
        time stands still, and its first message is a jump; the timer then counts steady time.
        """
        clock = None if self.now_ns() else self.steady
        end = TIMEOUT if clock is None else TIMEOUT_WITHOUT_CLOCK
        return self.create_timer(
            timeout_s, lambda: watched.end(*end), callback_group=self.group, clock=clock
        )

    def _abort(self, goal: Any, error: Exception) -> Watch.Result:
        """Abort an invalid goal and return its result, with an error code and a message."""
        if not isinstance(error, VljepaError) and not self.is_active:
            error = self.inactive()  # the node was deactivated in the meantime
        code = error.code if isinstance(error, VljepaError) else ErrorCode.INTERNAL
        self.report_problem('goals refused', f'watch refused: {describe_error(error)}')
        goal.abort()
        return Watch.Result(
            error_code=int(code),
            message=describe_error(error),
            abstain_reason=int(AbstainReason.NOT_SEEN),
        )

    def _finish(self, watched: _PendingWatch, moment: Moment | None) -> Watch.Result:
        result = Watch.Result(
            fired=moment is not None,
            error_code=int(watched.code),
            message=watched.message,
            abstain_reason=int(watched.condition.abstain_reason),
        )
        if moment is not None:
            result.moment = conversions.to_moment(moment)
            result.confidence = float(moment.score)
        if watched.goal.is_cancel_requested:
            watched.goal.canceled()
        elif moment is not None or watched.code is ErrorCode.TIMEOUT:
            watched.goal.succeed()
        else:
            self.get_logger().warning(f'watch aborted: {watched.message}')
            watched.goal.abort()
        return result

    def _update_watches(self, embedding: Embedding, scores: dict[str, float]) -> None:
        """Pass an embedding and its scores to the watches and publish feedback on their goals.

        Args:
            embedding: Embedding that the model thread scored.
            scores: Scores by condition.
        """
        for watched in list(self._watched):
            score = scores.get(watched.condition.text)
            concerned = watched.condition.concerns(embedding.key.source)
            if score is None or not concerned or watched.ended.done():
                continue
            moment = watched.condition.push(embedding, score)
            watched.goal.publish_feedback(
                Watch.Feedback(
                    score=float(watched.condition.score),
                    stamp=conversions.to_time(embedding.stamp_ns),
                    unfamiliar=float(embedding.unfamiliar),
                )
            )
            if moment is not None:
                watched.fire(moment)
