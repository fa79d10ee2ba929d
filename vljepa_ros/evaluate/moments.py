# SPDX-License-Identifier: Apache-2.0
"""Which annotated moments a suite looks at: drawn evenly, and the same ones every time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.mwstream.tasks import TASKS
from vljepa_ros.evaluate.views import CONTEXT_S, middle

T = TypeVar('T')


@dataclass(frozen=True)
class Moment:
    """An annotation's middle in its stream."""

    stream: Stream
    item: Annotation

    @property
    def at_s(self) -> float:
        """Seconds from the stream's start."""
        return middle(self.item)

    @property
    def camera(self) -> str:
        """The viewpoint that the stream is filmed from; '' where it is not known."""
        camera = self.stream.meta.get('camera')
        return str(camera.get('name', '')) if isinstance(camera, dict) else ''


def is_known(stream: Stream) -> bool:
    """Whether something is said of a stream, and there are wordings for all of it."""
    return bool(stream.annotations) and all(item.task in TASKS for item in stream.annotations)


def moments(
    streams: Iterable[Stream], tasks: Sequence[str], phases: Sequence[str] = ()
) -> list[Moment]:
    """All moments of `tasks` in `phases` (none given: in all) with enough before them to see."""
    return [
        Moment(stream, item)
        for stream in streams
        for item in stream.annotations
        if item.task in tasks
        and (not phases or item.phase in phases)
        and middle(item) >= CONTEXT_S
    ]


def one_an_episode(found: Iterable[Moment]) -> list[Moment]:
    """The longest of each episode and meaning: what interrupts it cuts it into pieces."""
    longest: dict[tuple[str, int, str], Moment] = {}
    for moment in found:
        key = (moment.stream.name, moment.item.episode, moment.item.meaning)
        known = longest.get(key)
        if known is None or _length(moment.item) > _length(known.item):
            longest[key] = moment
    return list(longest.values())


def evenly(found: Iterable[Moment]) -> list[Moment]:
    """One camera's after another's, and within a camera one stream's after another's."""
    return in_turn(in_turn(found, lambda m: m.stream.name), lambda m: m.camera)


def in_turn(items: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """One item of each key in turn, as long as there are; those of a key keep their order."""
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        waiting.setdefault(key(item), []).append(item)
    rounds = max((len(queue) for queue in waiting.values()), default=0)
    return [queue[i] for i in range(rounds) for queue in waiting.values() if i < len(queue)]


def _length(item: Annotation) -> float:
    return item.end - item.start
