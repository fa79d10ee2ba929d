# SPDX-License-Identifier: Apache-2.0
"""A question: its prompt, candidates, camera and time span."""

from __future__ import annotations

from dataclasses import dataclass

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import check_span, check_text, texts_of
from vljepa_ros.core.text import yes_of

MAX_CANDIDATES = 1000


@dataclass(frozen=True)
class Question:
    """A question about now, or about a span of the past.

    `candidates`: answers to choose from; if empty, the answer is a decoded text. `source`: name of
    the camera; '' for the only camera. `start_ns` and `end_ns`: the time span; 0 for an open start
    or end, both 0 for now.
    """

    prompt: str
    candidates: tuple[str, ...] = ()
    source: str = ''
    start_ns: int = 0
    end_ns: int = 0

    @property
    def is_about_the_past(self) -> bool:
        """Whether the question has a time span."""
        return bool(self.start_ns or self.end_ns)

    def check(self) -> None:
        """Validate the question, without running the model.

        Raises:
            InputError: The prompt, a candidate or the time span is invalid, there are too many
                candidates, or the candidates are yes and no but the prompt is empty.
        """
        check_text(self.prompt)
        candidates = texts_of(self.candidates, 'candidates')
        if len(candidates) > MAX_CANDIDATES:
            raise InputError(
                f'{len(candidates)} candidates are too many (at most {MAX_CANDIDATES})'
            )
        texts = [check_text(text, 'candidate', may_be_empty=False) for text in candidates]
        if yes_of(texts) is not None and not self.prompt.strip():
            raise InputError('the prompt is empty: candidates yes and no need a question')
        check_span(self.start_ns, self.end_ns)
