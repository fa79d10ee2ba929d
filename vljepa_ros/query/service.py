# SPDX-License-Identifier: Apache-2.0
"""Answers a question, the same way for the node, `Pipeline.ask` and `vljepa ask`.

A question about now is answered from the current visual state (NOW). One about the past is
answered from stored frames of its span (FRAMES), evaluated with its prompt; if there are none, or
they cannot be evaluated now, from stored embeddings of standing prompts (MEMORY). The caller
evaluates frames; nothing here imports ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vljepa_ros.core.errors import BusyError, ErrorCode, NotStoredError, VljepaError
from vljepa_ros.core.settings import check_span
from vljepa_ros.core.types import Answer, Basis, Seen
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.query.answerer import Answerer, check_question


@dataclass(frozen=True)
class Question:
    """A question about now, or about a span of the past.

    `candidates`: none for generated text. `source`: '' for the only one. `start_ns`, `end_ns`:
    0 for an open side; both 0 for now.
    """

    prompt: str
    candidates: tuple[str, ...] = ()
    source: str = ''
    start_ns: int = 0
    end_ns: int = 0

    @property
    def is_about_the_past(self) -> bool:
        """Whether it names a span."""
        return bool(self.start_ns or self.end_ns)

    def check(self) -> None:
        """Raise InputError if it cannot be asked; nothing is computed."""
        check_question(self.prompt, self.candidates)
        check_span(self.start_ns, self.end_ns)


Evaluated = tuple[str, Sequence[Seen]]  # the source, and its spans with the prompt's embeddings


class QueryService:
    """Answers in the thread that owns the language half and the memory."""

    def __init__(self, answerer: Answerer, memory: Memory | None = None) -> None:
        self._answerer, self._memory = answerer, memory

    def ask(self, question: Question, evaluate: Callable[[Question], Evaluated]) -> Answer:
        """Check, evaluate and answer in one go.

        Args:
            question: What is asked.
            evaluate: Evaluates the current state or stored frames; raises NotStoredError or
                BusyError if it cannot.

        Raises:
            InputError: a bad question; NotStoredError if nothing is stored of its span.
            BusyError: it can be answered later.
        """
        question.check()
        try:
            source, seen = evaluate(question)
        except (NotStoredError, BusyError) as error:
            return self.recall(question, error)
        return self.answer(question, source, seen)

    def answer(self, question: Question, source: str, seen: Sequence[Seen]) -> Answer:
        """Answer from what was evaluated with the question's prompt."""
        return self._answerer.recount(
            question.prompt,
            source,
            seen,
            question.candidates,
            Basis.FRAMES if question.is_about_the_past else Basis.NOW,
            question.start_ns,
        )

    def recall(self, question: Question, error: VljepaError) -> Answer:
        """Answer from memory, where frames could not be evaluated; raise `error` if it cannot.

        While the vision side is busy only the prompt's own embeddings will do: the frames may be
        evaluated soon, and embeddings of another prompt would be an abstention.
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
        """A sentence on stored streams of other models; '' if there are none."""
        count = self._memory.foreign if self._memory else 0
        return f'{count} streams of other models are kept, and not compared' if count else ''

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
