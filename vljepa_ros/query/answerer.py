# SPDX-License-Identifier: Apache-2.0
"""Turn predicted answer embeddings into an answer: the best candidate, or a decoded text.

An answer is an abstention, with a reason (`AbstainReason`), if the model cannot read the question
or one of its candidates, if too little of the time span was evaluated, if the scene is unfamiliar
to the model, if the question is unanswerable (it is about something that is absent or not
visible), or if the confidence is too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.core.protocols import Language, cannot_read
from vljepa_ros.core.settings import AnswerSettings
from vljepa_ros.core.text import yes_of
from vljepa_ros.core.types import (
    WITHHELD,
    AbstainReason,
    Answer,
    Basis,
    Candidate,
    EvaluatedSpan,
    Moment,
    Vector,
    first_reason,
)
from vljepa_ros.core.vectors import pooled
from vljepa_ros.query.question import Question

ROUNDING = 1e-6
SLACK_NS = 1_000_000_000  # the newest frames of a span may not fill a hop
LEAST_SHARE = 0.5  # "no" is an abstention unless more than this fraction of the span is evaluated


@dataclass(frozen=True)
class _Result:
    """Answer from one answer embedding; if it is an abstention, `reason` states why."""

    text: str
    confidence: float
    reason: AbstainReason = AbstainReason.NONE
    ranked: tuple[Candidate, ...] = ()
    nearest: bool = False  # the text is a retrieved sentence, not a decoded text

    @property
    def abstained(self) -> bool:
        """Whether the result is an abstention."""
        return self.reason is not AbstainReason.NONE


_Judged = tuple[EvaluatedSpan, _Result]
_WITHHELD_RESULT = _Result('', 0.0, AbstainReason.UNFAMILIAR)  # the vector is not decoded


class Answerer:
    """Turns answer embeddings into answers; use it in the thread that owns the text side."""

    def __init__(self, language: Language, settings: AnswerSettings | None = None) -> None:
        self._language, self._settings = language, settings or AnswerSettings()

    def answer(
        self, question: Question, seen: Sequence[EvaluatedSpan], basis: Basis = Basis.FRAMES
    ) -> Answer:
        """Answer a question from spans that were evaluated with its prompt; they are the evidence.

        With the candidates yes and no, the answer is yes if it is yes in any span. Other
        candidates get the mean of their scores. Without candidates, the texts of the spans are
        joined in order of time. Abstentions of single spans are ignored, unless all spans abstain.
        Confidence in "no" is scaled by the fraction of the asked time that could be evaluated;
        the time between two spans counts as evaluated.

        Args:
            question: The question, with the name of the camera of the spans.
            seen: Evaluated spans in order of time; at least one.
            basis: Data that the spans are based on, copied into the answer.

        Raises:
            InputError: The question is invalid.
        """
        return self._answer(question, seen, basis, asked=True)

    def recall(
        self, question: Question, seen: Sequence[EvaluatedSpan], own: bool = True
    ) -> Answer:
        """Answer a question from stored embeddings of a standing prompt.

        Embeddings of another prompt do not answer the question. The answer is then an abstention,
        usually NOT_SEEN, whose text describes the span. Candidates are ranked by how well they
        describe the span, unless they are yes and no.

        Args:
            question: The question, with the name of the camera of the spans.
            seen: Stored spans in order of time; at least one.
            own: Whether the embeddings were predicted for the prompt of the question.

        Raises:
            InputError: The question is invalid.
        """
        if own:
            return self._answer(question, seen, Basis.MEMORY, asked=True)
        described = replace(question, start_ns=0, end_ns=0)
        if yes_of(question.candidates) is not None:
            described = replace(described, candidates=())
        answer = self._answer(described, seen, Basis.MEMORY, asked=False)
        reason = first_reason([AbstainReason.NOT_SEEN, answer.abstain_reason])
        return replace(answer, abstained=True, abstain_reason=reason)

    def _answer(
        self, question: Question, seen: Sequence[EvaluatedSpan], basis: Basis, asked: bool
    ) -> Answer:
        """Answer a question; `asked`: whether the vectors were predicted for its prompt."""
        question.check()
        question = replace(question, candidates=tuple(dict.fromkeys(question.candidates)))
        coverage = _coverage(seen, question.start_ns, question.end_ns)
        if len(seen) == 1 and coverage == 1.0:
            return self._answer_one(question, seen[0], basis, asked)
        unreadable = self._unreadable_texts(question)
        results = (
            [_WITHHELD_RESULT] * len(seen)
            if unreadable
            else self._judge(seen, question.candidates, asked)
        )
        judged = list(zip(seen, results, strict=True))
        usable = [(s, result) for s, result in judged if not result.abstained]
        used, whole = _combine(usable or judged, len(judged) / coverage, question.candidates)
        reasons = [whole.reason]
        if not usable or whole.abstained:  # too little of the span could be evaluated
            reasons += [result.reason for _, result in judged]
            reasons += [AbstainReason.NOT_SEEN] if coverage <= LEAST_SHARE else []
        if whole.confidence < self._settings.abstain_below:
            reasons.append(AbstainReason.LOW_CONFIDENCE)
        reason = AbstainReason.UNREADABLE if unreadable else first_reason(reasons)
        if reason in (AbstainReason.UNREADABLE, AbstainReason.UNFAMILIAR):
            whole, used = replace(whole, text='', confidence=0.0, ranked=()), judged
        return Answer(
            whole.text,
            whole.confidence,
            reason is not AbstainReason.NONE,
            used[-1][0].end_ns,
            self._language.facts.model_id,
            pooled([s.vector for s, _ in used]),
            whole.ranked,
            tuple(_moment(question.source, s, result) for s, result in used),
            basis,
            whole.nearest,
            reason,
            max(s.unfamiliar for s, _ in used),
            self._message(unreadable),
        )

    def _answer_one(
        self, question: Question, seen: EvaluatedSpan, basis: Basis, asked: bool
    ) -> Answer:
        """Answer a question from a single span; a stored text of the span is evidence only."""
        unreadable = self._unreadable_texts(question)
        textless = replace(seen, text='', nearest=False)
        [result] = (
            [_WITHHELD_RESULT]
            if unreadable
            else self._judge([textless], question.candidates, asked)
        )
        moment = Moment(question.source, seen.start_ns, seen.end_ns, 1.0, seen.text)
        if result is _WITHHELD_RESULT:
            moment = replace(moment, score=0.0, text='')
        return Answer(
            result.text,
            result.confidence,
            result.abstained,
            seen.end_ns,
            self._language.facts.model_id,
            seen.vector,
            result.ranked,
            (moment,),
            basis,
            result.nearest,
            AbstainReason.UNREADABLE if unreadable else result.reason,
            seen.unfamiliar,
            self._message(unreadable),
        )

    def _unreadable_texts(self, question: Question) -> list[str]:
        """Return all texts among the prompt and the candidates that the model cannot read.

        One unreadable candidate is enough for an abstention, because the scores of all candidates
        depend on each other.
        """
        written = [text for text in (question.prompt, *question.candidates) if text.strip()]
        return [text for text in written if self._language.unreadable(text) >= WITHHELD]

    def _message(self, unreadable: Sequence[str]) -> str:
        return cannot_read(self._language.facts, unreadable) if unreadable else ''

    def _judge(
        self, seen: Sequence[EvaluatedSpan], candidates: Sequence[str], asked: bool
    ) -> list[_Result]:
        familiar = [s for s in seen if s.unfamiliar < WITHHELD]
        results = iter(self._judge_familiar(familiar, candidates, asked) if familiar else ())
        return [next(results) if s.unfamiliar < WITHHELD else _WITHHELD_RESULT for s in seen]

    def _judge_familiar(
        self, seen: Sequence[EvaluatedSpan], candidates: Sequence[str], asked: bool
    ) -> list[_Result]:
        vectors = [s.vector for s in seen]
        if candidates:
            rankings = [tuple(self._language.rank(vector, candidates)) for vector in vectors]
            answers = [(ranked[0].text, ranked[0].score, ranked, False) for ranked in rankings]
        else:
            texts = self._language.decode(np.stack(vectors), asked=asked)
            answers = [
                (
                    s.text or decoded.text,
                    decoded.confidence,
                    (),
                    s.nearest if s.text else decoded.nearest,
                )
                for s, decoded in zip(seen, texts, strict=True)
            ]
        return [
            _Result(text, score, self._reason(vector, candidates, text, score), ranked, is_nearest)
            for vector, (text, score, ranked, is_nearest) in zip(vectors, answers, strict=True)
        ]

    def _reason(
        self, vector: Vector, candidates: Sequence[str], text: str, confidence: float
    ) -> AbstainReason:
        if self._language.is_unanswerable(vector, candidates, text):
            return AbstainReason.UNANSWERABLE
        unsure = confidence < self._settings.abstain_below
        return AbstainReason.LOW_CONFIDENCE if unsure else AbstainReason.NONE


def _moment(source: str, seen: EvaluatedSpan, result: _Result) -> Moment:
    text = '' if result is _WITHHELD_RESULT else seen.text or result.text
    return Moment(source, seen.start_ns, seen.end_ns, result.confidence, text)


def _coverage(seen: Sequence[EvaluatedSpan], start_ns: int, end_ns: int) -> float:
    """Return the fraction of the asked time between the first and the last span.

    The asked time is from `start_ns` to `end_ns`; 0: from the first span, or to the last. Gaps
    between spans count as evaluated, because the few windows that are selected from a long span
    represent the time between them.
    """
    first_ns, last_ns = seen[0].start_ns, seen[-1].end_ns
    start_ns = min(start_ns or first_ns, first_ns)
    if end_ns <= last_ns + SLACK_NS:
        end_ns = last_ns
    if (start_ns, end_ns) == (first_ns, last_ns):
        return 1.0
    return max((last_ns - first_ns) / (end_ns - start_ns), ROUNDING)


def _combine(
    judged: Sequence[_Judged], total: float, candidates: Sequence[str]
) -> tuple[Sequence[_Judged], _Result]:
    """Combine the results of several spans into one result.

    Args:
        judged: Evaluated spans with their results.
        total: Number of spans, including abstentions and an estimate for the time not evaluated.
        candidates: Candidates of the question.

    Returns:
        The spans that the combined result is based on, and this result.
    """
    results = [result for _, result in judged]
    if not candidates:
        texts = [r.text for r in results if r is not _WITHHELD_RESULT]
        texts = [text for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]]
        lowest = min(r.confidence for r in results)
        return judged, _Result('; '.join(texts), lowest, nearest=any(r.nearest for r in results))
    judged = [item for item in judged if item[1].ranked] or judged
    results = [result for _, result in judged]
    if not results[0].ranked:
        return judged, _WITHHELD_RESULT
    scores = [{c.text: c.score for c in r.ranked} for r in results]
    yes = yes_of(candidates)
    if yes is not None:
        best = int(np.argmax([score[candidates[yes]] for score in scores]))
        if results[best].text == candidates[yes]:
            return [item for item in judged if item[1].text == candidates[yes]], results[best]
        return judged, _scaled(results[best], len(judged) / total)
    mean = {text: sum(score[text] for score in scores) / len(results) for text in candidates}
    ranked = sorted((Candidate(t, mean[t]) for t in candidates), key=lambda c: -c.score)
    return judged, _Result(ranked[0].text, ranked[0].score, ranked=tuple(ranked))


def _scaled(result: _Result, share: float) -> _Result:
    """Multiply the scores by `share`; the remainder is the probability of "unanswerable".

    The result is an abstention if `share` is at most `LEAST_SHARE`.
    """
    ranked = tuple(Candidate(c.text, c.score * share) for c in result.ranked)
    reason = AbstainReason.UNANSWERABLE if share <= LEAST_SHARE else AbstainReason.NONE
    return _Result(result.text, result.confidence * share, reason, ranked)
