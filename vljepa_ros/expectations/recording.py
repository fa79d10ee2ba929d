# SPDX-License-Identifier: Apache-2.0
"""What a model sees in a recording: scores of statements, text events, and answers.

Shapes: N hops of a camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import BusyError, InputError, NotStoredError
from vljepa_ros.core.protocols import Model, check_readable
from vljepa_ros.core.settings import Settings
from vljepa_ros.core.types import WITHHELD, Answer, Embedding, Event, Frame, State, Vector
from vljepa_ros.expectations.spec import (
    AnswerIs,
    Expectation,
    Expectations,
    Order,
    Time,
    Trigger,
)
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import Damaged, Source
from vljepa_ros.sources.bag import BagSource

SECOND_NS = 1_000_000_000
Answered = Answer | InputError


@dataclass
class Track:
    """Hops of one camera: their times in seconds from the start of the recording, and vectors."""

    times_s: list[float] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    is_unfamiliar: list[bool] = field(default_factory=list)

    def add(self, embedding: Embedding, start_ns: int) -> None:
        """Append a hop."""
        self.times_s.append((embedding.stamp_ns - start_ns) / SECOND_NS)
        self.vectors.append(embedding.vector)
        self.is_unfamiliar.append(embedding.unfamiliar >= WITHHELD)


@dataclass(frozen=True)
class Watched:
    """A recording as a model sees it.

    `length_s`: time of the newest hop. `hop_s`: time between two hops. `tracks`: hops by camera.
    `events`: ended segments. `answers`: answer to each question, or the reason why there is none.
    `triggers`: times of the messages that expectations refer to. `score`: returns the scores (N,)
    of a statement for vectors (N, D).
    """

    length_s: float
    hop_s: float
    tracks: dict[str, Track]
    events: tuple[Event, ...]
    answers: dict[Expectation, Answered]
    triggers: dict[str, tuple[float, ...]]
    start_ns: int
    score: Callable[[NDArray[np.float32], str], NDArray[np.float32]]

    def time(self, time: Time) -> float:
        """Return a time in seconds from the start of the recording.

        Raises:
            InputError: The topic has fewer messages.
        """
        if not isinstance(time, Trigger):
            return time
        return _triggered(self.triggers, time)


def watch(
    model: Model,
    source: Source,
    expected: Expectations,
    settings: Settings | None = None,
    items: Iterable[Frame | Damaged] | None = None,
) -> Watched:
    """Process a recording once, and collect what its expectations refer to.

    Args:
        model: Model with both sides.
        source: The recording.
        expected: Its expectations.
        settings: Settings of the pipeline.
        items: Frames of the recording, for example with a progress bar; by default the source's.

    Raises:
        InputError: An expectation refers to a camera, a topic or a time that does not exist, or
            to a text that the model cannot read.
    """
    assert model.language is not None
    _check(expected, source, model)
    triggers = _triggers(expected, source)
    pipeline = Pipeline(model, settings)
    questions = _ScheduledQuestions(expected, source, triggers, pipeline)
    tracks = {camera: Track() for camera in source.cameras}
    events: list[Event] = []
    newest_ns = source.start_ns
    for item in source.items() if items is None else items:
        if isinstance(item, Damaged):
            pipeline.skip(item.source, item.stamp_ns)
            continue
        events += pipeline.push(item)
        for embedding in pipeline.last_embeddings:
            if embedding.key.prompt != pipeline.perceiver.prompts[0]:
                continue
            tracks[embedding.key.source].add(embedding, source.start_ns)
            newest_ns = max(newest_ns, embedding.stamp_ns)
        questions.ask_until(item.stamp_ns, item.source)
    questions.ask_rest(newest_ns)
    events += pipeline.finish()
    return Watched(
        (newest_ns - source.start_ns) / SECOND_NS,
        model.facts.hop_ns / SECOND_NS,
        tracks,
        tuple(event for event in events if event.state is State.ENDED),
        questions.answers,
        triggers,
        source.start_ns,
        model.language.similarity,
    )


class _ScheduledQuestions:
    """Asks each question as soon as its time has passed."""

    def __init__(
        self,
        expected: Expectations,
        source: Source,
        triggers: dict[str, tuple[float, ...]],
        pipeline: Pipeline,
    ) -> None:
        self._pipeline, self._start_ns = pipeline, source.start_ns
        self._triggers, self._cameras = triggers, source.cameras
        self.answers: dict[Expectation, Answered] = {}
        self._pending = sorted(
            ((self._due_ns(item), item) for item in expected.items if _question(item)),
            key=lambda pair: pair[0],
        )

    def ask_until(self, stamp_ns: int, camera: str) -> None:
        """Ask the questions that are due before the next frame of a camera is processed."""
        for pair in [pair for pair in self._pending if pair[0] <= stamp_ns]:
            if camera == (pair[1].camera or self._cameras[0]):
                self._pending.remove(pair)
                self._ask(pair[1])

    def ask_rest(self, newest_ns: int) -> None:
        """Ask the remaining questions at the end; a moment after the end has no answer."""
        for due_ns, item in self._pending:
            late_s = (due_ns - newest_ns) / SECOND_NS
            if late_s > 1.0:
                self.answers[item] = InputError(f'the recording ends {late_s:.1f} s earlier')
            else:
                self._ask(item)

    def _ask(self, item: Expectation) -> None:
        about = item.kind
        assert isinstance(about, AnswerIs)
        span_ns = [0, 0]
        if about.at is None:
            span_ns = [self._stamp_ns(about.start) or self._start_ns, self._stamp_ns(about.end)]
        source = item.camera or (self._cameras[0] if len(self._cameras) == 1 else '')
        try:
            answer = self._pipeline.ask(about.question, about.candidates, source, *span_ns)
        except (BusyError, NotStoredError) as error:
            self.answers[item] = InputError(str(error))
        except InputError as error:
            raise InputError(f'line {item.line}: {error}') from error
        else:
            self.answers[item] = answer

    def _due_ns(self, item: Expectation) -> int:
        about = item.kind
        assert isinstance(about, AnswerIs)
        due = about.end if about.at is None else about.at
        return self._stamp_ns(due) if due else (1 << 62 if about.at is None else self._start_ns)

    def _stamp_ns(self, time: Time | None) -> int:
        if time is None:
            return 0
        seconds = _triggered(self._triggers, time) if isinstance(time, Trigger) else time
        return self._start_ns + round(seconds * SECOND_NS)


def _question(item: Expectation) -> bool:
    return isinstance(item.kind, AnswerIs)


def _check(expected: Expectations, source: Source, model: Model) -> None:
    """Raise InputError for unknown cameras, and for statements that the model cannot read."""
    assert model.language is not None
    for item in expected.items:
        where = f'{expected.path}, line {item.line}'
        if item.camera and item.camera not in source.cameras:
            known = ', '.join(source.cameras)
            raise InputError(f"{where}: unknown camera '{item.camera}' (known: {known})")
        if not item.camera and len(source.cameras) > 1:
            known = ', '.join(source.cameras)
            raise InputError(f"{where}: the recording has several cameras: add 'camera' ({known})")
        texts = item.kind.texts if isinstance(item.kind, Order) else ()
        for text in texts or (getattr(item.kind, 'text', ''),):
            if text:
                try:
                    check_readable(model.language, text, 'text')
                except InputError as error:
                    raise InputError(f'{where}: {error}') from error


def _triggers(expected: Expectations, source: Source) -> dict[str, tuple[float, ...]]:
    """Return the times of all messages of the topics that expectations refer to.

    The time of a message is the time at which it was recorded, relative to the first image.
    """
    if not expected.topics:
        return {}
    if not isinstance(source, BagSource):
        raise InputError(
            f'{expected.path}: {source.path} is not a bag, so it has no messages on '
            f'{", ".join(expected.topics)}'
        )
    known = {topic.name: topic for topic in source.bag.topics}
    for name in expected.topics:
        if name not in known:
            raise InputError(
                f"{expected.path}: the bag has no topic '{name}' (known: {', '.join(known)})"
            )
    first = next(source.bag.messages(source.topics), None)
    zero_ns = first.log_ns if first is not None else source.start_ns
    found: dict[str, list[float]] = {name: [] for name in expected.topics}
    for message in source.bag.messages([known[name] for name in expected.topics]):
        found[message.topic.name].append((message.log_ns - zero_ns) / SECOND_NS)
    times = {name: tuple(values) for name, values in found.items()}
    for item in expected.items:
        for value in vars(item.kind).values():
            if isinstance(value, Trigger):
                try:
                    _triggered(times, value)
                except InputError as error:
                    raise InputError(f'{expected.path}, line {item.line}: {error}') from error
    return times


def _triggered(triggers: dict[str, tuple[float, ...]], time: Trigger) -> float:
    times = triggers.get(time.message, ())
    if time.number > len(times):
        raise InputError(
            f'{time.message} has {len(times)} messages, so there is no {time.number}.'
        )
    return times[time.number - 1]
