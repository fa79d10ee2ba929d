# SPDX-License-Identifier: Apache-2.0
"""Context of the suites: a model, annotated streams and progress reporting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.process_pool import Processes
from vljepa_ros.core.protocols import Language, Model, Vision
from vljepa_ros.data import concepts
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.views import Vectors, centre

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
Load = Callable[[], Model]
T = TypeVar('T')
R = TypeVar('R')

PARTS, MOST_AT_ONCE = 8, 32  # a process takes an eighth of its share at once, for smooth progress


def silent(items: Iterable[T], name: str, total: int) -> Iterable[T]:
    """Report no progress."""
    del name, total
    return items


class Context:
    """One model on one split.

    `unseen`: streams of tasks that are absent from training. `validation`: streams for choosing
    thresholds. `processes`: see `helpers`. `concepts`: concepts of the streams.

    Raises:
        ModelError: the vision side or the text side of the model is missing.
        InputError: there are no streams, or they come from several simulators.
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
            raise ModelError('evaluation needs the vision side and the text side of a model')
        if not streams:
            raise InputError('no streams to evaluate on')
        self.model, self.streams, self.unseen = model, tuple(streams), tuple(unseen)
        self.concepts = concepts.of(self.streams)
        self.validation = tuple(validation)
        self.vision: Vision = model.vision
        self.language: Language = model.language
        self._progress, self._processes = progress, processes
        self._centres: dict[str, Vectors] = {}
        self._made: dict[str, Any] = {}

    def watched(self, name: str) -> Iterator[Stream]:
        """Iterate over all streams, with progress."""
        yield from self.each(self.streams, name)

    def each(self, items: Sequence[T], name: str) -> Iterator[T]:
        """Iterate over items, with progress."""
        yield from self._progress(items, name, len(items))

    def map(self, work: Callable[[Context, T], R], items: Sequence[T], name: str) -> list[R]:
        """Apply `work`, a module-level function, to each item, in order and with progress.

        With several processes, each has a context of its own with the same model and streams.
        """
        found: Iterable[R] = (work(self, item) for item in items)
        if self._processes:
            at_once = max(1, min(MOST_AT_ONCE, len(items) // (PARTS * self._processes.count)))
            found = self._processes.map(partial(_in_process, work), items, at_once)
        return list(self._progress(found, name, len(items)))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return the cached result of `make`, which several suites share."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found

    def centre(self, meaning: str) -> Vectors:
        """Return the oracle's prediction: the center of a concept's training paraphrases."""
        if meaning not in self._centres:
            self._centres[meaning] = centre(self.language.encode(self.concepts.sentences(meaning)))
        return self._centres[meaning]


def helpers(count: int, load: Load, streams: Sequence[Stream]) -> Processes:
    """Return processes for a `Context`; each loads the model with its first work."""
    return Processes(count, 'try fewer --jobs', _start, (load, tuple(streams)))


_given: list[tuple[Load, tuple[Stream, ...]]] = []  # arguments of this process


def _start(load: Load, streams: tuple[Stream, ...]) -> None:
    _given.append((load, streams))


@cache
def _own() -> Context:
    load, streams = _given[-1]
    return Context(load(), streams)


def _in_process(work: Callable[[Context, T], R], item: T) -> R:
    return work(_own(), item)
