# SPDX-License-Identifier: Apache-2.0
"""Context of an evaluation suite: a model, annotated streams and progress reporting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.process_pool import ProcessPool
from vljepa_ros.core.protocols import Language, Model, Vision
from vljepa_ros.data import concepts
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.views import Vectors, centroid

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
Load = Callable[[], Model]
T = TypeVar('T')
R = TypeVar('R')

PARTS, MOST_AT_ONCE = 8, 32  # a process takes an eighth of its share at once, for smooth progress


def silent(items: Iterable[T], name: str, total: int) -> Iterable[T]:
    """Return `items` unchanged, as a `Progress` function that reports nothing."""
    del name, total
    return items


class Context:
    """Model and annotated streams that an evaluation suite runs on.

    Args:
        model: Model to evaluate.
        streams: Streams to evaluate on.
        progress: Wrapper of an iterable that reports progress.
        unseen: Streams of tasks that are absent from training.
        validation: Streams for choosing thresholds.
        processes: Worker processes of `map` (see `helpers`); by default, `map` uses none.

    Raises:
        ModelError: The vision side or the text side of the model is missing.
        InputError: There are no streams, or they come from several simulators.
    """

    def __init__(
        self,
        model: Model,
        streams: Sequence[Stream],
        progress: Progress = silent,
        unseen: Sequence[Stream] = (),
        validation: Sequence[Stream] = (),
        processes: ProcessPool | None = None,
    ) -> None:
        if model.vision is None or model.language is None:
            raise ModelError(
                'evaluation needs a model with both its vision side and its text side'
            )
        if not streams:
            raise InputError('evaluation needs at least one stream')
        self.model, self.streams, self.unseen = model, tuple(streams), tuple(unseen)
        self.concepts = concepts.of(self.streams)
        self.validation = tuple(validation)
        self.vision: Vision = model.vision
        self.language: Language = model.language
        self._progress, self._processes = progress, processes
        self._centroids: dict[str, Vectors] = {}
        self._made: dict[str, Any] = {}

    def watched(self, name: str) -> Iterator[Stream]:
        """Yield all streams and report progress under `name`."""
        yield from self.each(self.streams, name)

    def each(self, items: Sequence[T], name: str) -> Iterator[T]:
        """Yield all items and report progress under `name`."""
        yield from self._progress(items, name, len(items))

    def map(self, work: Callable[[Context, T], R], items: Sequence[T], name: str) -> list[R]:
        """Return the results of `work` for all items, in the order of the items; report progress.

        Worker processes, if there are any, each have their own context with the same model and
        streams. `work` must be a module-level function.
        """
        found: Iterable[R] = (work(self, item) for item in items)
        if self._processes:
            at_once = max(1, min(MOST_AT_ONCE, len(items) // (PARTS * self._processes.count)))
            found = self._processes.map(partial(_in_process, work), items, at_once)
        return list(self._progress(found, name, len(items)))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return the result of `make`, computed once per `name` and shared by all suites."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found

    def centroid(self, meaning: str) -> Vectors:
        """Return the oracle's prediction for a concept.

        It is the normalized mean (D,) of the text embeddings of the training paraphrases.
        """
        if meaning not in self._centroids:
            self._centroids[meaning] = centroid(
                self.language.encode(self.concepts.sentences(meaning))
            )
        return self._centroids[meaning]


def helpers(count: int, load: Load, streams: Sequence[Stream]) -> ProcessPool:
    """Return `count` worker processes for a `Context`; each loads the model at its first item."""
    return ProcessPool(count, 'try fewer --jobs', _start, (load, tuple(streams)))


_given: list[tuple[Load, tuple[Stream, ...]]] = []  # arguments of this process


def _start(load: Load, streams: tuple[Stream, ...]) -> None:
    _given.append((load, streams))


@cache
def _own() -> Context:
    load, streams = _given[-1]
    return Context(load(), streams)


def _in_process(work: Callable[[Context, T], R], item: T) -> R:
    return work(_own(), item)
