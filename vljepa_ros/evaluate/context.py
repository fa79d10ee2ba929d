# SPDX-License-Identifier: Apache-2.0
"""What every suite needs: a model, annotated streams, and a way to say how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from vljepa_ros.data.format import Stream
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.errors import InputError, ModelError
from vljepa_ros.evaluate.views import Vectors, centre
from vljepa_ros.stream.interfaces import Eyes, Language, Model

Progress = Callable[[Iterable[Stream], str, int], Iterable[Stream]]


def silent(items: Iterable[Stream], name: str, total: int) -> Iterable[Stream]:
    """No progress at all."""
    del name, total
    return items


class Context:
    """One model on one split. Raises ModelError for half a model, InputError without streams."""

    def __init__(
        self, model: Model, streams: Sequence[Stream], progress: Progress = silent
    ) -> None:
        if model.eyes is None or model.language is None:
            raise ModelError('evaluation needs both halves of a model')
        if not streams:
            raise InputError('no streams to evaluate on')
        self.model, self.streams = model, tuple(streams)
        self.eyes: Eyes = model.eyes
        self.language: Language = model.language
        self._progress = progress
        self._centres: dict[str, Vectors] = {}

    def watched(self, name: str) -> Iterator[Stream]:
        """All streams, with progress."""
        yield from self._progress(self.streams, name, len(self.streams))

    def centre(self, meaning: str) -> Vectors:
        """What an oracle predicts: the centre of the meaning's training wordings."""
        if meaning not in self._centres:
            self._centres[meaning] = centre(self.language.encode(sentences(meaning, 'train')))
        return self._centres[meaning]
