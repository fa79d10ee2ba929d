# SPDX-License-Identifier: Apache-2.0
"""Single-threaded pipeline from frames to text events and answers, without ROS.

The nodes connect the same components by topics. Pipeline and nodes do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.images import check_rgb
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.settings import (
    Settings,
    check_integer,
    check_span,
    check_stamp,
    check_text,
    texts_of,
)
from vljepa_ros.core.types import (
    Answer,
    Change,
    Embedding,
    EvaluatedSpan,
    Event,
    Frame,
    Moment,
    StreamKey,
)
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.frame_store import FrameStore
from vljepa_ros.query.answerer import Answerer
from vljepa_ros.query.question import Question
from vljepa_ros.query.service import Evaluated, QueryService
from vljepa_ros.stream.offline_segmenter import OfflineSegmenter
from vljepa_ros.stream.perceiver import Perceiver
from vljepa_ros.stream.segmenter import Segmenter
from vljepa_ros.stream.stamp_filter import StampFilter
from vljepa_ros.stream.text_events import EventWriter


class Pipeline:
    """Single-threaded pipeline without ROS: frames in, text events and answers out.

    Push frames in the order of their stamps; `finish` closes the last segments. Other results of
    the last `push` are in `last_embeddings`, `last_changes` and `last_message` (a log line).
    `intakes[source]` is the stamp filter of a camera, which counts dropped frames and resets.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings | None = None,
        session_id: str = 'offline',
        segmenter: Segmenter | OfflineSegmenter | None = None,
    ) -> None:
        """Create a pipeline with empty state.

        Args:
            model: Vision side and text side of a model, see `vljepa_ros.model.registry.load`.
            settings: Prompts, sampling, segmentation, answers and memory.
            session_id: Identifier that is copied into every event.
            segmenter: Segmenter to use instead of a `Segmenter` with `settings.segmenter`.

        Raises:
            ModelError: The vision side or the text side of the model is not loaded.
            InputError: An argument is of a wrong type, or a standing prompt is invalid.
        """
        _check_parts(model, settings, segmenter)
        check_text(session_id, 'session_id')
        if model.vision is None or model.language is None:
            raise ModelError(
                'the pipeline needs both sides of the model, vision and text: load both'
            )
        self.model, self.settings = model, settings or Settings()
        self.language = model.language
        self.frame_store = FrameStore(model.facts, self.settings.frame_store)
        self.perceiver = Perceiver(model.vision, self.settings.perception, self.frame_store)
        self.segmenter = segmenter or Segmenter(self.settings.segmenter, session_id)
        self.writer = EventWriter(model.language)
        self.answerer = Answerer(model.language, self.settings.answers)
        self.memory = Memory(model.facts.model_id, self.settings.memory)
        self.query = QueryService(self.answerer, self.memory)
        self.intakes: dict[str, StampFilter] = {}
        self.last_embeddings: list[Embedding] = []
        self.last_changes: list[Change] = []
        self.last_message = ''

    def push(self, frame: Frame, dropped: bool = False) -> list[Event]:
        """Process one frame and return the new text events.

        Args:
            frame: The frame.
            dropped: Whether frames of its camera before it were dropped for lack of time; their
                slots of the sampling grid are then skipped, to limit latency.

        Raises:
            InputError: The frame is invalid; the pipeline is unchanged.
        """
        frame = _checked(frame)
        stamp_filter = self._stamp_filter(frame.source)
        self.last_embeddings, self.last_changes = [], []
        decision = stamp_filter.admit(frame.stamp_ns, frame.image.shape[:2])
        self.last_message = decision.message
        if not decision.accepted:
            return []
        hops = self.perceiver.see(frame, decision.reset_count, dropped)
        self.last_embeddings = [embedding for hop in hops for embedding in hop]
        events: list[Event] = []
        for embedding in self.last_embeddings:
            self.memory.record(embedding)
            if self.segmenter.is_repeated(embedding):
                continue
            for change in self.segmenter.push(embedding):
                events += self._settle(change)
        return events

    def skip(self, source: str, stamp_ns: int) -> None:
        """Register the stamp of an image that could not be decoded, so that it is not a gap.

        Raises:
            InputError: The source or the stamp is invalid.
        """
        check_text(source, 'source', may_be_empty=False)
        stamp_ns = check_stamp(stamp_ns)
        stamp_filter = self._stamp_filter(source)
        self.last_embeddings, self.last_changes = [], []
        self.last_message = stamp_filter.admit(stamp_ns).message
        stamp_filter.reject()

    def set_prompts(self, prompts: Sequence[str]) -> list[Event]:
        """Replace all standing prompts, and end the streams of removed prompts.

        Returns:
            Final events of the streams that ended.

        Raises:
            InputError: A prompt is invalid or unreadable, or there are too many; the pipeline is
                unchanged.
        """
        self.perceiver.set_prompts(prompts)
        return self._end(lambda key: key.prompt not in self.perceiver.prompts)

    def finish(self) -> list[Event]:
        """End all streams, and return the final events of their open segments."""
        return self._end(lambda _: True)

    def ask(
        self,
        prompt: str,
        candidates: Sequence[str] = (),
        source: str = '',
        start_ns: int = 0,
        end_ns: int = 0,
    ) -> Answer:
        """Answer a question about now or about a span of the past, as the service `query` does.

        Args:
            prompt: The question.
            candidates: Answers to choose from; if empty, a text is decoded.
            source: Name of the camera; '' for the only camera.
            start_ns: Start of the span; 0 for an open start.
            end_ns: End of the span; 0 for an open end. If both are 0, the question is about now.

        Raises:
            InputError: The question is invalid.
            NotStoredError: Nothing is stored for the span of the question.
            BusyError: The question cannot be answered now, but may be repeated later.
        """
        texts = texts_of(candidates, 'candidates')
        span = check_span(start_ns, end_ns)
        question = Question(prompt, texts, check_text(source, 'source'), *span)
        return self.query.ask(question, self._evaluate)

    def _evaluate(self, question: Question) -> Evaluated:
        span = question.start_ns, question.end_ns
        found = self.perceiver.predict(question.source, [question.prompt], *span)
        return found.source, [
            EvaluatedSpan(
                window.start_ns, window.end_ns, window.vectors[0], unfamiliar=window.unfamiliar
            )
            for window in found.windows
        ]

    def search(
        self, text: str, source: str = '', start_ns: int = 0, end_ns: int = 0, limit: int = 10
    ) -> list[Moment]:
        """Return the stored moments that are most similar to a text, best first.

        Args:
            text: Description to search for.
            source: Name of the camera; '' for all.
            start_ns: Start of the searched span; 0 for an open start.
            end_ns: End of the searched span; 0 for an open end.
            limit: Maximum number of moments.

        Raises:
            InputError: The text, the span, the limit or the source is invalid.
        """
        check_text(source, 'source')
        limit, span = check_integer(limit, 'limit'), check_span(start_ns, end_ns)
        return self.memory.search(self.language, text, source, *span, limit)

    def _stamp_filter(self, source: str) -> StampFilter:
        return self.intakes.setdefault(source, StampFilter(self.settings.perception.max_gap_ns))

    def _end(self, which: Callable[[StreamKey], bool]) -> list[Event]:
        return [event for change in self.segmenter.end(which) for event in self._settle(change)]

    def _settle(self, change: Change) -> list[Event]:
        self.last_changes.append(change)
        events = self.writer.push(change)
        self.memory.change(change)
        self.frame_store.keep(change)
        for event in events:
            self.memory.event(event)
        return events


def _check_parts(model: object, settings: object, segmenter: object) -> None:
    """Raise InputError if an argument of `Pipeline` is of a wrong type."""
    if not isinstance(model, Model):
        shown = f"'{model}'" if isinstance(model, str) else f'of type {type(model).__name__}'
        name = model if isinstance(model, str) else 'small'
        raise InputError(
            f'the pipeline needs a loaded model, but its argument is {shown}: '
            f"use Pipeline(load('{name}'))"
        )
    if settings is not None and not isinstance(settings, Settings):
        raise InputError(f'settings is of type {type(settings).__name__}, not Settings')
    if segmenter is not None and not isinstance(segmenter, (Segmenter, OfflineSegmenter)):
        raise InputError(
            f'the segmenter is of type {type(segmenter).__name__}, '
            'not Segmenter or OfflineSegmenter'
        )


def _checked(frame: object) -> Frame:
    """Return a frame with its stamp as int; raise InputError if the frame is invalid."""
    if not isinstance(frame, Frame):
        raise InputError(
            f'the frame is of type {type(frame).__name__}: use push(Frame(stamp_ns, image))'
        )
    check_text(frame.source, 'source', may_be_empty=False)
    check_rgb(frame.image)
    stamp_ns = check_stamp(frame.stamp_ns)  # SQLite would store an integer of NumPy as bytes
    return frame if type(frame.stamp_ns) is int else replace(frame, stamp_ns=stamp_ns)
