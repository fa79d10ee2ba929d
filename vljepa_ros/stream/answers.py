# SPDX-License-Identifier: Apache-2.0
"""A predicted answer embedding -> an answer: the best candidate, or words from the Y-Decoder.

It is an abstention where the model holds that nobody can tell (it asks about what is not there, or
cannot be seen), or where the confidence is less than the user wants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.errors import InputError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.settings import AnswerSettings, check_text
from vljepa_ros.stream.types import Answer, Basis, Candidate, Moment, Seen, Vector

MAX_CANDIDATES = 1000


def check_question(prompt: object, candidates: Sequence[object] = ()) -> None:
    """Raise InputError if a question cannot be asked; before anything is computed."""
    check_text(prompt)
    if len(candidates) > MAX_CANDIDATES:
        raise InputError(f'{len(candidates)} candidates are too many (at most {MAX_CANDIDATES})')
    for candidate in candidates:
        check_text(candidate, 'candidate', may_be_empty=False)


def yes_among(candidates: Sequence[str]) -> int | None:
    """Which begins with yes, where the only other one begins with no."""
    first = [''.join(re.findall(r'[^\W_]+', text.lower())[:1]) for text in candidates]
    return first.index('yes') if sorted(first) == ['no', 'yes'] else None


@dataclass(frozen=True)
class _Said:
    """What is said of one vector."""

    text: str
    confidence: float
    abstained: bool
    ranked: tuple[Candidate, ...] = ()


class Answerer:
    """Turns answer embeddings into answers, in the thread that owns the language half."""

    def __init__(self, language: Language, settings: AnswerSettings | None = None) -> None:
        self._language, self._settings = language, settings or AnswerSettings()

    def answer(
        self,
        prompt: str,
        vector: Vector,
        stamp_ns: int,
        candidates: Sequence[str] = (),
        basis: Basis = Basis.NOW,
        evidence: Sequence[Moment] = (),
    ) -> Answer:
        """Rank the candidates, or decode where there are none. Raises InputError."""
        check_question(prompt, candidates)
        [said] = self._say([vector], candidates)
        return Answer(
            said.text,
            said.confidence,
            said.abstained,
            stamp_ns,
            self._language.facts.model_id,
            vector,
            said.ranked,
            tuple(evidence),
            basis,
        )

    def recount(
        self,
        prompt: str,
        source: str,
        seen: Sequence[Seen],
        candidates: Sequence[str] = (),
        basis: Basis = Basis.FRAMES,
    ) -> Answer:
        """One answer from one or several stretches of the past; all of them are its evidence.

        Of yes and no it is yes if it ever was so; other candidates have the mean of their scores;
        own words are those of each stretch, one after the other. Stretches that cannot tell are
        left out. Raises InputError.
        """
        if len(seen) == 1:
            [only] = seen
            moment = Moment(source, only.start_ns, only.end_ns, 1.0, only.text)
            return self.answer(prompt, only.vector, only.end_ns, candidates, basis, [moment])
        check_question(prompt, candidates)
        said = self._say([s.vector for s in seen], candidates)
        telling = [i for i, s in enumerate(said) if not s.abstained]
        whole = _together([said[i] for i in telling or range(len(said))], candidates)
        return Answer(
            whole.text,
            whole.confidence,
            not telling or whole.confidence < self._settings.abstain_below,
            seen[-1].end_ns,
            self._language.facts.model_id,
            _mean([seen[i].vector for i in telling or range(len(seen))]),
            whole.ranked,
            tuple(
                Moment(source, s.start_ns, s.end_ns, told.confidence, s.text or told.text)
                for s, told in zip(seen, said, strict=True)
            ),
            basis,
        )

    def remember(
        self,
        prompt: str,
        source: str,
        seen: Sequence[Seen],
        candidates: Sequence[str] = (),
        own: bool = True,
    ) -> Answer:
        """An answer from remembered vectors; `own`: those of this prompt.

        Vectors of another prompt rank what might have happened, but are neither a yes nor a no,
        nor any other answer: then what happened is told, as an abstention. Raises InputError.
        """
        if own or (candidates and yes_among(candidates) is None):
            return self.recount(prompt, source, seen, candidates, Basis.MEMORY)
        told = self.recount(prompt, source, seen, (), Basis.MEMORY)
        return replace(told, abstained=True)

    def _say(self, vectors: Sequence[Vector], candidates: Sequence[str]) -> list[_Said]:
        if candidates:
            rankings = [tuple(self._language.rank(vector, candidates)) for vector in vectors]
            told = [(ranked[0].text, ranked[0].score, ranked) for ranked in rankings]
        else:
            words = self._language.decode(np.stack(vectors), asked=True)
            told = [(decoded.text, decoded.confidence, ()) for decoded in words]
        return [
            _Said(text, confidence, self._doubts(vector, candidates, text, confidence), ranked)
            for vector, (text, confidence, ranked) in zip(vectors, told, strict=True)
        ]

    def _doubts(
        self, vector: Vector, candidates: Sequence[str], text: str, confidence: float
    ) -> bool:
        unsure = confidence < self._settings.abstain_below
        return unsure or self._language.cannot_tell(vector, candidates, text)


def _together(said: Sequence[_Said], candidates: Sequence[str]) -> _Said:
    """One answer of several."""
    if not candidates:
        texts = [s.text for i, s in enumerate(said) if i == 0 or s.text != said[i - 1].text]
        return _Said('; '.join(texts), min(s.confidence for s in said), False)
    scores = [{c.text: c.score for c in s.ranked} for s in said]
    yes = yes_among(candidates)
    if yes is not None:
        return said[int(np.argmax([score[candidates[yes]] for score in scores]))]
    mean = {text: sum(score[text] for score in scores) / len(said) for text in candidates}
    ranked = sorted((Candidate(t, mean[t]) for t in candidates), key=lambda c: -c.score)
    return _Said(ranked[0].text, ranked[0].score, False, tuple(ranked))


def _mean(vectors: Sequence[Vector]) -> Vector:
    mean = np.mean(vectors, axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
