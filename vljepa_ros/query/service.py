# SPDX-License-Identifier: Apache-2.0
"""Question answering, identical for the node, `Pipeline.ask` and `vljepa ask`.

A question about now is answered from the current visual state (NOW). A question about the past is
answered from stored frames of its span (FRAMES), evaluated with its prompt. If no frames are
stored, or they cannot be evaluated now, stored embeddings of standing prompts are used (MEMORY).
The caller evaluates the frames; this module does not import ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vljepa_ros.core.errors import BusyError, ErrorCode, NotStoredError, VljepaError
from vljepa_ros.core.settings import check_span
from vljepa_ros.core.types import Answer, Basis, EvaluatedSpan
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.query.answerer import Answerer, check_question


@dataclass(frozen=True)
class Question:
    """A question about now, or about a span of the past.

    `candidates`: none for a decoded text. `source`: '' for the only camera. `start_ns`, `end_ns`:
    0 for an open side; both 0 for now.
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
        """Raise InputError if the question is invalid; nothing is computed."""
        check_question(self.prompt, self.candidates)
        check_span(self.start_ns, self.end_ns)


# The source, and its spans with the prompt's embeddings.
Evaluated = tuple[str, Sequence[EvaluatedSpan]]


class QueryService:
    """Answers questions. Runs in the thread that owns the text side and the memory."""

    def __init__(self, answerer: Answerer, memory: Memory | None = None) -> None:
        self._answerer, self._memory = answerer, memory

    def ask(self, question: Question, evaluate: Callable[[Question], Evaluated]) -> Answer:
        """Check a question, evaluate frames for it, and answer it.

        Args:
            question: The question.
            evaluate: Evaluates the current state or stored frames; raises NotStoredError or
                BusyError if it cannot.

        Raises:
            InputError: The question is invalid; NotStoredError if nothing is stored for its span.
            BusyError: The question can be answered later.
        """
        question.check()
        try:
            source, seen = evaluate(question)
        except (NotStoredError, BusyError) as error:
            return self.recall(question, error)
        return self.answer(question, source, seen)

    def answer(self, question: Question, source: str, seen: Sequence[EvaluatedSpan]) -> Answer:
        """Answer from spans that were evaluated with the prompt of the question.

        Args:
            question: The question.
            source: Camera of the spans.
            seen: Spans in order of time; at least one.

        Raises:
            InputError: The question is invalid.
        """
        return self._answerer.answer_past(
            question.prompt,
            source,
            seen,
            question.candidates,
            Basis.FRAMES if question.is_about_the_past else Basis.NOW,
            question.start_ns,
        )

    def recall(self, question: Question, error: VljepaError) -> Answer:
        """Answer from stored embeddings, after the frames could not be evaluated.

        While the vision side is busy, only embeddings of the same prompt are used: the frames may
        be evaluated soon, and embeddings of another prompt would lead to an abstention.

        Args:
            question: The question.
            error: The error of the evaluation; raised if there are no suitable embeddings.
        """
        memory, answer = self._memory, None
        if question.is_about_the_past and memory is not None:
            answer = self._recalled(question, memory, error.code is ErrorCode.BUSY)
        if answer is not None:
            return answer
        if isinstance(error, NotStoredError) and self.others:
            raise NotStoredError(f'{error}; {self.others}') from error
        raise error

    @property
    def others(self) -> str:
        """A note on stored streams of other models; '' if there are none."""
        count = self._memory.foreign if self._memory else 0
        return f'not searched: {count} stored streams of other models' if count else ''

    def _recalled(self, question: Question, memory: Memory, only_own: bool) -> Answer | None:
        if not question.source and len(memory.sources) > 1:
            return None
        span = question.start_ns, question.end_ns
        found = memory.recall(question.source, *span, question.prompt)
        if found is None:
            return None
        own = question.prompt in ('', found.prompt)
        if only_own and not own:
            return None
        return self._answerer.remember(
            question.prompt, found.source, found.seen, question.candidates, own, question.start_ns
        )
