# SPDX-License-Identifier: Apache-2.0
"""Deterministic selection of annotated moments, evenly over cameras and streams."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.evaluate.cameras import viewpoint
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.statistics import mean
from vljepa_ros.evaluate.views import CONTEXT_S, middle

T = TypeVar('T')
HIDDEN = 'acts left out: object not visible'


@dataclass(frozen=True)
class AnnotationMoment:
    """Moment at the middle of an annotation of a stream."""

    stream: Stream
    item: Annotation

    @property
    def at_s(self) -> float:
        """Return the moment's time in seconds from the start of the stream."""
        return middle(self.item)

    @property
    def id(self) -> str:
        """Return an id of the moment that does not depend on the model."""
        return f'{self.stream.name}@{self.at_s:.3f}'

    @property
    def camera(self) -> str:
        """Return the name of the moment's home camera (see `viewpoint`); '' for other cameras."""
        return viewpoint(self.stream, self.item.episode)


def is_known(stream: Stream, tasks: Sequence[str]) -> bool:
    """Return whether a stream has annotations and each of them belongs to one of `tasks`."""
    return bool(stream.annotations) and all(item.task in tasks for item in stream.annotations)


def moments(
    streams: Iterable[Stream],
    tasks: Sequence[str],
    phases: Sequence[str] = (),
    with_hidden: bool = False,
) -> list[AnnotationMoment]:
    """Return a moment at the middle of each annotation of `tasks` in `phases` (default: all).

    Moments less than `CONTEXT_S` after the start of their stream are omitted, and moments whose
    object is not visible are omitted unless `with_hidden` is true.
    """
    return [
        AnnotationMoment(stream, item)
        for stream in streams
        for item in stream.annotations
        if item.task in tasks
        and (not phases or item.phase in phases)
        and middle(item) >= CONTEXT_S
        and (with_hidden or not item.hidden)
    ]


def hidden_rows(streams: Iterable[Stream], tasks: Sequence[str]) -> list[Row]:
    """Return one row: the fraction of acts that are not evaluated because the object is hidden.

    An act is the main movement of a task. Interruptions divide it into several annotations (phase
    'act'), of which the longest counts. Acts of tasks other than `tasks`, and acts whose middle is
    less than `CONTEXT_S` after the start of the stream, are ignored. The list is empty if no
    object is hidden.
    """
    acts = one_an_episode(moments(streams, tasks, ('act',), with_hidden=True))
    hidden = [float(act.item.hidden) for act in acts]
    if not any(hidden):
        return []
    return [Row('data', HIDDEN, mean(hidden, clusters=[act.stream.name for act in acts]))]


def one_an_episode(found: Iterable[AnnotationMoment]) -> list[AnnotationMoment]:
    """Return one moment per episode and concept, at the middle of the longest annotation.

    Interruptions divide an action into several annotations of the same concept.
    """
    longest: dict[tuple[str, int, str], AnnotationMoment] = {}
    for moment in found:
        key = (moment.stream.name, moment.item.episode, moment.item.meaning)
        known = longest.get(key)
        if known is None or _length(moment.item) > _length(known.item):
            longest[key] = moment
    return list(longest.values())


def evenly(found: Iterable[AnnotationMoment]) -> list[AnnotationMoment]:
    """Return moments in round-robin order over cameras and, within a camera, over streams."""
    return in_turn(in_turn(found, lambda m: m.stream.name), lambda m: m.camera)


def in_turn(items: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """Return items in round-robin order over their keys; items of one key keep their order."""
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        waiting.setdefault(key(item), []).append(item)
    rounds = max((len(queue) for queue in waiting.values()), default=0)
    return [queue[i] for i in range(rounds) for queue in waiting.values() if i < len(queue)]


def _length(item: Annotation) -> float:
    return item.end - item.start
