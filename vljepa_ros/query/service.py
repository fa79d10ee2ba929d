# SPDX-License-Identifier: Apache-2.0
"""Question answering, identical for query_node, `Pipeline.ask` and `vljepa ask`.

A question about now is answered from the current visual state (NOW). A question about the past is
answered from stored frames of its time span (FRAMES), evaluated with its prompt. If no frames are
stored, or if the frames cannot be evaluated now, stored embeddings of a standing prompt are used
(MEMORY). The caller evaluates the frames; this module does not import ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vljepa_ros.core.errors import BusyError, ErrorCode, NotStoredError, VljepaError
from vljepa_ros.core.types import Answer, Basis, EvaluatedSpan
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.query.answerer import Answerer
from vljepa_ros.query.question import Question

# Name of the camera, and its evaluated spans with the answer embeddings of the prompt.
Evaluated = tuple[str, Sequence[EvaluatedSpan]]


class QueryService:
    """Answers questions; use it in the thread that owns the text side and the memory."""

    def __init__(self, answerer: Answerer, memory: Memory | None = None) -> None:
        self._answerer, self._memory = answerer, memory

    def ask(self, question: Question, evaluate: Callable[[Question], Evaluated]) -> Answer:
        """Check a question, evaluate frames for it, and return the answer.

        Args:
            question: The question.
            evaluate: Function that evaluates the current state or stored frames, and returns the
                camera and the evaluated spans; raises NotStoredError or BusyError if it cannot.

        Raises:
            InputError: The question is invalid.
            NotStoredError: Nothing is stored for the time span of the question.
            BusyError: The question cannot be answered now, but may be repeated later.
        """
        question.check()
        try:
            source, seen = evaluate(question)
        except (NotStoredError, BusyError) as error:
            return self.recall(question, error)
        return self.answer(question, source, seen)

    def answer(self, question: Question, source: str, seen: Sequence[EvaluatedSpan]) -> Answer:
        """Answer a question from spans that were evaluated with its prompt.

        Args:
            question: The question.
            source: Camera of the spans.
            seen: Evaluated spans in order of time; at least one.

        Raises:
            InputError: The question is invalid.
        """
        basis = Basis.FRAMES if question.is_about_the_past else Basis.NOW
        return self._answerer.answer(replace(question, source=source), seen, basis)

    def recall(self, question: Question, error: VljepaError) -> Answer:
        """Answer a question from stored embeddings, because its frames could not be evaluated.

        While the vision side is busy, only embeddings of the same prompt are used: the frames can
        be evaluated later, and embeddings of another prompt would lead to an abstention.

        Args:
            question: The question.
            error: The error of the evaluation.

        Raises:
            VljepaError: `error`, if no suitable embeddings are stored.
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
        """Note on stored streams of other models, for messages; '' if there are none."""
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
        return self._answerer.recall(replace(question, source=found.source), found.seen, own)
