# SPDX-License-Identifier: Apache-2.0
"""Selection of annotated moments for the suites: even over cameras and deterministic."""

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
class Moment:
    """Middle of an annotation in its stream."""

    stream: Stream
    item: Annotation

    @property
    def at_s(self) -> float:
        """Return the time in seconds from the stream's start."""
        return middle(self.item)

    @property
    def id(self) -> str:
        """Return an id of the moment that does not depend on the model."""
        return f'{self.stream.name}@{self.at_s:.3f}'

    @property
    def camera(self) -> str:
        """Return the moment's viewpoint, one of four; '' for other cameras."""
        return viewpoint(self.stream, self.item.episode)


def is_known(stream: Stream, tasks: Sequence[str]) -> bool:
    """Return whether a stream has annotations and all of them are about one of `tasks`."""
    return bool(stream.annotations) and all(item.task in tasks for item in stream.annotations)


def moments(
    streams: Iterable[Stream],
    tasks: Sequence[str],
    phases: Sequence[str] = (),
    with_hidden: bool = False,
) -> list[Moment]:
    """Return all moments of `tasks` in `phases` (none given: in all) with enough context before.

    Moments whose object is not visible are left out unless `with_hidden` is true.
    """
    return [
        Moment(stream, item)
        for stream in streams
        for item in stream.annotations
        if item.task in tasks
        and (not phases or item.phase in phases)
        and middle(item) >= CONTEXT_S
        and (with_hidden or not item.hidden)
    ]


def hidden_rows(streams: Iterable[Stream], tasks: Sequence[str]) -> list[Row]:
    """Return a row with the share of acts that are left out; none if all objects are visible."""
    acts = one_an_episode(moments(streams, tasks, ('act',), with_hidden=True))
    hidden = [float(act.item.hidden) for act in acts]
    if not any(hidden):
        return []
    return [Row('data', HIDDEN, mean(hidden, clusters=[act.stream.name for act in acts]))]


def one_an_episode(found: Iterable[Moment]) -> list[Moment]:
    """Return the longest moment of each episode and concept (interruptions split them)."""
    longest: dict[tuple[str, int, str], Moment] = {}
    for moment in found:
        key = (moment.stream.name, moment.item.episode, moment.item.meaning)
        known = longest.get(key)
        if known is None or _length(moment.item) > _length(known.item):
            longest[key] = moment
    return list(longest.values())


def evenly(found: Iterable[Moment]) -> list[Moment]:
    """Order moments evenly over the cameras and, within a camera, over the streams."""
    return in_turn(in_turn(found, lambda m: m.stream.name), lambda m: m.camera)


def in_turn(items: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """Order items round-robin by key; items of one key keep their order."""
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        waiting.setdefault(key(item), []).append(item)
    rounds = max((len(queue) for queue in waiting.values()), default=0)
    return [queue[i] for i in range(rounds) for queue in waiting.values() if i < len(queue)]


def _length(item: Annotation) -> float:
    return item.end - item.start
