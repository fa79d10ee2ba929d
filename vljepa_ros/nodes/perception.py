# SPDX-License-Identifier: Apache-2.0
"""perception_node: publishes one embedding of the camera images per hop and standing prompt.

Callbacks filter stamps and pass the newest undamaged image of each camera to the model thread,
which decodes and encodes it. Every received image is acknowledged on `frame_processed`, even if it
was rejected or dropped.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from std_msgs.msg import Header

from vljepa_ros.core.errors import InputError, NoFrameError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.settings import check_prompts
from vljepa_ros.core.types import Embedding, Frame, Image
from vljepa_ros.memory.frame_store import FrameStore
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding
from vljepa_ros.nodes import conversions, parameters, qos
from vljepa_ros.nodes.camera import CameraRegion
from vljepa_ros.nodes.camera_node import CameraNode
from vljepa_ros.nodes.image_topic import ImageTopic, PendingImage
from vljepa_ros.nodes.model_requests import LOOK_BACK_S
from vljepa_ros.nodes.video_topic import topics_of
from vljepa_ros.runtime.model_pool import ModelPool
from vljepa_ros.srv import Predict
from vljepa_ros.stream.perceiver import Perceiver, Prediction, Steps


class PerceptionNode(CameraNode):
    """Lifecycle node that runs the vision side of the model on cameras and serves `predict`."""

    specs = parameters.PERCEPTION
    part = 'vision'

    def __init__(self, pool: ModelPool | None = None, **options: Any) -> None:
        """Create the node, with its service `predict`; the model is loaded at configure."""
        super().__init__('perception_node', pool, **options)
        self._cameras: dict[str, CameraRegion] = {}
        self._topics: tuple[ImageTopic, ...] = ()
        self._perceiver: Perceiver | None = None
        self._frame_store: FrameStore | None = None
        self._changes: Any = None
        self._counters: dict[str, int] = {}  # written by the model thread, replaced as a whole
        self.problems |= parameters.declare(self, self.camera_specs())
        depth = self.get_parameter('service_depth').value
        self.create_service(  # type: ignore[misc]  # rclpy awaits the callback
            Predict,
            'predict',
            self._on_predict,
            qos_profile=qos.service(depth),
            callback_group=self.group,
        )

    def open_storage(self, facts: ModelFacts, values: dict[str, Any]) -> FrameStore:
        """Open the frame store: the file `frames_path`, or RAM if the path is empty."""
        settings, path = parameters.frame_store_settings(values), values['frames_path']
        file = Path(path).expanduser() if path else None
        return FrameStore(facts, settings, file, self.now_ns)

    def setup(self) -> None:
        """Create the Perceiver, the cameras and the publishers."""
        self._frame_store = self.storage
        self._cameras = self.make_cameras()
        values = self.values()
        settings = parameters.perception_settings(values)
        self._perceiver = Perceiver(self.lease.half, settings, self._frame_store)
        self._rate_hz = settings.rate or self.lease.facts.rate_hz
        self._topics = topics_of(
            tuple(self._cameras.values()), settings.max_gap_ns, self.resolve_topic_name
        )
        self._embeddings = self.publisher(SemanticEmbedding, 'semantic_embedding', qos.STREAM)
        self._model_info = self.publisher(ModelInfo, 'model_info', qos.MODEL_INFO)
        self._processed = self.publisher(Header, 'frame_processed', qos.PROCESSED)

    def start(self) -> None:
        """Publish `model_info`; subscribe to `semantic_change` and the images of all cameras."""
        self._publish_model_info()
        self._changes = self.subscriber(
            SemanticChange, 'semantic_change', self._on_change, qos.STREAM
        )
        for topic in self._topics:
            topic.subscribe(self, self._on_image, self._acknowledge)

    def stop(self) -> None:
        """Unsubscribe, drop pending images, and wait until the model thread empties its queue."""
        for topic in self._topics:
            topic.unsubscribe(self)
            self._report_dropped(topic, self.thread.withdraw(self._slot(topic)))
        if self._changes is not None:
            self.destroy_subscription(self._changes)
            self._changes = None
        self.end_steps()
        self.enqueue(self._commit)
        self.settle()
        for camera in self._cameras.values():
            self.condition(f'{camera.name}: unfamiliar', '')

    def teardown(self) -> None:
        """Discard the state of all cameras and destroy the publishers."""
        self._perceiver = self._frame_store = None
        self._cameras, self._topics, self._counters = {}, (), {}
        for name in ('_embeddings', '_model_info', '_processed'):
            if hasattr(self, name):
                self.retire(getattr(self, name))
                delattr(self, name)

    def update_conditions(self) -> None:
        """Commit the frame store, and warn about cameras whose topic has a problem."""
        self.enqueue(self._commit)
        for topic in self._topics:
            topic.update_conditions(self)

    def describe(self) -> dict[str, str]:
        """Return the counters of the node and of each camera for the diagnostics."""
        found = {'cameras': ', '.join(self._cameras)}
        found |= {name: str(value) for name, value in self._counters.items()}
        for topic in self._topics:
            found |= topic.describe()
        return found

    # Images.

    def _on_image(self, topic: ImageTopic, arrived: PendingImage) -> None:
        displaced = self.thread.offer(
            self._slot(topic), arrived, lambda item: self._process(topic, item)
        )
        self._report_dropped(topic, displaced)

    def _report_dropped(self, topic: ImageTopic, displaced: PendingImage | None) -> None:
        if displaced is not None:
            for camera in topic.cameras:
                self.health.count(f'{camera.name}: dropped, too slow')
            self._acknowledge(topic, displaced.message_ns)

    def _process(self, topic: ImageTopic, arrived: PendingImage) -> None:
        """Process an image and acknowledge it; runs in the model thread."""
        self.guarded(lambda: self._push(topic, arrived))
        self._acknowledge(topic, arrived.message_ns)

    def _push(self, topic: ImageTopic, arrived: PendingImage) -> None:
        assert self._perceiver is not None and self._frame_store is not None
        try:
            image = topic.take(arrived)
        except InputError as error:
            topic.reject(self, error)
            return
        resized = topic.stamp_filter.resize(image.shape[:2])
        if resized:
            self.report_problem(f'{topic.name}: image size changed', f'{topic.name}: {resized}')
        dropped, topic.dropped = topic.dropped, False
        for camera in topic.cameras:
            self.guarded(partial(self._see, topic, camera, image, arrived, dropped))
        self._counters = {
            'hops': self._perceiver.hops,
            'skipped slots': self._perceiver.skipped_slots,
            'prompts': len(self._perceiver.prompts),
            'bytes of stored frames': self._frame_store.held_bytes,
            'bytes of the file of frames and its log': self._frame_store.file_bytes,
        }

    def _see(
        self,
        topic: ImageTopic,
        camera: CameraRegion,
        image: Image,
        arrived: PendingImage,
        dropped: bool,
    ) -> None:
        """Process what one camera shows of an image; runs in the model thread."""
        assert self._perceiver is not None
        view = camera.view(image)
        frame = Frame(arrived.stamp_ns, view.image, camera.name)
        reset_count = arrived.reset_count + view.changes
        for embeddings in self._perceiver.see(frame, reset_count, dropped):
            self._publish(camera, embeddings, topic.frame_id, time.monotonic() - arrived.arrived_s)

    # Stored frames and embeddings.

    def _on_change(self, message: SemanticChange) -> None:
        self.enqueue(self._protect_window, message)

    def _protect_window(self, message: SemanticChange) -> None:
        """Mark the frames of the last window of a closed segment, which are retained longest.

        Runs in the model thread.
        """
        if self._frame_store is not None:
            self._frame_store.keep(conversions.from_change_message(message))

    def _commit(self) -> None:
        """Commit the frame store; runs in the model thread once a second."""
        if self._frame_store is not None:
            self._frame_store.commit()
            self.condition('frames', self._frame_store.problem)

    def _publish(
        self, camera: CameraRegion, embeddings: list[Embedding], frame_id: str, latency_s: float
    ) -> None:
        for embedding in embeddings:
            self._embeddings.publish(
                conversions.to_embedding_message(embedding, frame_id, round(latency_s * 1e9))
            )
        if embeddings:
            self.health.output(latency_s)
            self._report_familiarity(camera, embeddings[0])

    def _report_familiarity(self, camera: CameraRegion, embedding: Embedding) -> None:
        """Warn while a camera's scene has been unfamiliar to the model for at least 3 s."""
        lasts = camera.unfamiliar.push(embedding)
        name = self.lease.facts.name
        text = (
            f"{camera.name}: scene unfamiliar to model '{name}': answers are withheld; "
            'fine-tune the model, or use another model'
        )
        self.condition(f'{camera.name}: unfamiliar', text if lasts else '')

    def _acknowledge(self, topic: ImageTopic, stamp_ns: int) -> None:
        for camera in topic.cameras:
            self._processed.publish(conversions.to_header(stamp_ns, camera.name))

    def _slot(self, topic: ImageTopic) -> str:
        return f'{self.get_fully_qualified_name()}/{topic.name}'

    def _frame_id(self, source: str) -> str:
        return next(
            (t.frame_id for t in self._topics for camera in t.cameras if camera.name == source), ''
        )

    # Questions.

    async def _on_predict(
        self, request: Predict.Request, response: Predict.Response
    ) -> Predict.Response:
        return await self.serve(response, lambda: self._predict(request, response))

    async def _predict(self, request: Predict.Request, response: Predict.Response) -> None:
        source = self._source_of(request.source)
        span = conversions.to_ns(request.start), conversions.to_ns(request.end)
        found = await self._evaluate(source, list(request.prompts), span)
        response.header = conversions.to_header(found.stamp_ns, self._frame_id(found.source))
        response.window_start = conversions.to_time(found.window_start_ns)
        response.source, response.model_id = found.source, found.model_id
        response.vectors = conversions.to_embeddings(found.vectors)
        response.looks = [conversions.to_look(window) for window in found.windows]

    async def _evaluate(
        self, source: str, prompts: list[str], span: tuple[int, int]
    ) -> Prediction:
        """Predict answer embeddings from the current state, or from stored frames of a span.

        Stored frames are evaluated in steps, so that live images and questions about now are
        processed in between.

        Args:
            source: CameraRegion.
            prompts: P prompts.
            span: Start and end in ns; both 0 for the current state.
        """
        if any(span):
            return await self.by_steps(self._predict_past(source, prompts, span), LOOK_BACK_S)
        return await self.in_thread(self._predict_now, source, prompts)

    def _predict_now(self, source: str, prompts: list[str]) -> Prediction:
        """Predict answer embeddings from the current state; runs in the model thread."""
        assert self._perceiver is not None
        self._check_seen(source, self._perceiver.sources)
        return self._perceiver.predict(source, prompts)

    def _predict_past(self, source: str, prompts: list[str], span: tuple[int, int]) -> Steps:
        """Predict answer embeddings from stored frames; runs step by step in the model thread."""
        assert self._perceiver is not None and self._frame_store is not None
        self._check_seen(source, (*self._perceiver.sources, *self._frame_store.sources))
        return (yield from self._perceiver.predicting(source, prompts, *span))

    @staticmethod
    def _check_seen(source: str, seen: tuple[str, ...]) -> None:
        if not seen:
            raise NoFrameError('no frame has been encoded yet: check that the camera publishes')
        if source not in seen:
            raise NoFrameError(
                f"no frame of '{source}' has been encoded yet: check that this camera publishes"
            )

    def _source_of(self, source: str) -> str:
        """Return the camera of a request; '' means the only camera.

        Raises:
            InputError: The camera is unknown, or '' is ambiguous.
        """
        known = ', '.join(self._cameras)
        if not source and len(self._cameras) > 1:
            raise InputError(f'source is empty, but there are several cameras (known: {known})')
        if source and source not in self._cameras:
            raise InputError(f"unknown source '{source}' (known: {known})")
        return source or next(iter(self._cameras))

    # Changes of prompts and crops at run time.

    def check_runtime(self, values: dict[str, Any]) -> None:
        """Raise InputError if new prompts or crops are invalid."""
        super().check_runtime(values)
        if 'prompts' not in values:
            return
        prompts = tuple(values['prompts'] or ())
        if self._perceiver is None:
            check_prompts(prompts)
        else:
            self._perceiver.check_prompts(prompts)

    def on_runtime_change(self, values: dict[str, Any]) -> None:
        """Apply new prompts together between two hops, and new crops from the next image on.

        A new crop resets the stream of its camera.
        """
        for camera in self._cameras.values():
            crop = values.get(f'{camera.name}.crop')
            if crop is not None and camera.set_crop(crop):
                self.get_logger().info(f'{camera.name}: crop changed: camera state reset')
        perceiver = self._perceiver
        if perceiver is None or 'prompts' not in values:
            return
        prompts = tuple(values['prompts'] or ())

        def change() -> None:
            perceiver.set_prompts(prompts)
            self.post(self._publish_model_info)

        self.thread.call(self.guarded, change)

    def _publish_model_info(self) -> None:
        if self._perceiver is None:
            return
        self._model_info.publish(
            conversions.to_model_info(
                self.lease.facts, self._perceiver.prompts, self._cameras, self._rate_hz
            )
        )
