# SPDX-License-Identifier: Apache-2.0
"""Sampling of clip-text pairs, to train bidirectional models on captions and on questions.

Shapes: F frames per clip, S image side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Stream


@dataclass(frozen=True)
class ClipTextPair:
    """A clip (F, S, S, 3) uint8, a prompt, and the text that is the answer to the prompt."""

    frames: NDArray[np.uint8]
    prompt: str
    text: str


@dataclass(frozen=True)
class _AnswerSpan:
    """A span of a stream, from `start` to `end` in seconds, in which `text` answers `prompt`."""

    stream: Stream
    start: float
    end: float
    prompt: str
    text: str


class PairSampler:
    """Draws random clips that end within the time span of an annotation or of a question.

    All annotations are equally probable, and so are all questions. `prompt` is the prompt for
    captions.

    Raises:
        InputError: No stream has an annotation with a text.
    """

    def __init__(self, streams: list[Stream], seed: int, prompt: str = '') -> None:
        self._rng = np.random.default_rng(seed)
        self._captions = [
            _AnswerSpan(stream, item.start, item.end, prompt, item.text)
            for stream in streams
            for item in stream.annotations
            if item.text
        ]
        self._questions = [
            _AnswerSpan(stream, item.start, item.end, item.prompt, item.answer)
            for stream in streams
            for item in stream.questions()
        ]
        if not self._captions:
            raise InputError('cannot train on captions: no stream has an annotation with a text')

    def draw(self, count: int, frames: int, questions: float) -> list[ClipTextPair]:
        """Draw random clip-text pairs.

        Args:
            count: Number of pairs.
            frames: Number of frames per clip.
            questions: Fraction of the pairs that are questions, if the streams have questions.
        """
        found = []
        for _ in range(count):
            is_question = self._questions and self._rng.random() < questions
            kind = self._questions if is_question else self._captions
            found.append(self._pair(kind[self._rng.integers(len(kind))], frames))
        return found

    def _pair(self, span: _AnswerSpan, frames: int) -> ClipTextPair:
        stamps_ns = span.stream.stamps_ns()
        times = (stamps_ns - stamps_ns[0]) / 1e9
        holds = np.flatnonzero((times >= span.start) & (times < span.end))
        # If the span of a question lies between two frames, the clip ends at the earlier frame.
        last = int(self._rng.choice(holds)) if len(holds) else _before(times, span.end)
        # The first frame is repeated if the clip would begin before the stream.
        rows = np.maximum(np.arange(last - frames + 1, last + 1), 0)
        return ClipTextPair(np.asarray(span.stream.frames()[rows]), span.prompt, span.text)


def _before(times: NDArray[np.float64], time_s: float) -> int:
    return max(int(np.searchsorted(times, time_s, side='right')) - 1, 0)
