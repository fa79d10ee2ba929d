# SPDX-License-Identifier: Apache-2.0
"""What every suite needs: a model, annotated streams, and a way to say how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.process_pool import Processes
from vljepa_ros.core.protocols import Language, Model, Vision
from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.evaluate.views import Vectors, centre

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
Load = Callable[[], Model]
T = TypeVar('T')
R = TypeVar('R')

PARTS, MOST_AT_ONCE = 8, 32  # a process takes an eighth of its share at once, for the bar's sake


def silent(items: Iterable[T], name: str, total: int) -> Iterable[T]:
    """No progress at all."""
    del name, total
    return items


class Context:
    """One model on one split.

    `unseen`: streams of the tasks that training never had. `validation`: those that thresholds
    are chosen on. `processes`: see `helpers`. Raises ModelError for half a model, InputError
    without streams.
    """

    def __init__(
        self,
        model: Model,
        streams: Sequence[Stream],
        progress: Progress = silent,
        unseen: Sequence[Stream] = (),
        validation: Sequence[Stream] = (),
        processes: Processes | None = None,
    ) -> None:
        if model.vision is None or model.language is None:
            raise ModelError('evaluation needs both halves of a model')
        if not streams:
            raise InputError('no streams to evaluate on')
        self.model, self.streams, self.unseen = model, tuple(streams), tuple(unseen)
        self.validation = tuple(validation)
        self.vision: Vision = model.vision
        self.language: Language = model.language
        self._progress, self._processes = progress, processes
        self._centres: dict[str, Vectors] = {}
        self._made: dict[str, Any] = {}

    def watched(self, name: str) -> Iterator[Stream]:
        """All streams, with progress."""
        yield from self.each(self.streams, name)

    def each(self, items: Sequence[T], name: str) -> Iterator[T]:
        """Items of any kind, with progress."""
        yield from self._progress(items, name, len(items))

    def map(self, work: Callable[[Context, T], R], items: Sequence[T], name: str) -> list[R]:
        """What `work`, a function of a module, finds of each item, in their order, with progress.

        Where there are processes, each has a context of its own, with the same model and streams.
        """
        found: Iterable[R] = (work(self, item) for item in items)
        if self._processes:
            at_once = max(1, min(MOST_AT_ONCE, len(items) // (PARTS * self._processes.count)))
            found = self._processes.map(partial(_in_process, work), items, at_once)
        return list(self._progress(found, name, len(items)))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` makes, which several suites ask for; made at the first time."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found

    def centre(self, meaning: str) -> Vectors:
        """What an oracle predicts: the centre of the meaning's training wordings."""
        if meaning not in self._centres:
            self._centres[meaning] = centre(self.language.encode(sentences(meaning, 'train')))
        return self._centres[meaning]


def helpers(count: int, load: Load, streams: Sequence[Stream]) -> Processes:
    """Processes for a `Context`, each of which loads the model when it has something to do."""
    return Processes(count, 'try fewer --jobs', _start, (load, tuple(streams)))


_given: list[tuple[Load, tuple[Stream, ...]]] = []  # of a process


def _start(load: Load, streams: tuple[Stream, ...]) -> None:
    _given.append((load, streams))


@cache
def _own() -> Context:
    load, streams = _given[-1]
    return Context(load(), streams)


def _in_process(work: Callable[[Context, T], R], item: T) -> R:
    return work(_own(), item)
