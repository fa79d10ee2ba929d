# SPDX-License-Identifier: Apache-2.0
"""A predicted answer embedding -> an answer: the best candidate, or words from the Y-Decoder.

It is an abstention where the model holds that nobody can tell (it asks about what is not there, or
cannot be seen), or where the confidence is less than the user wants.
"""

from __future__ import annotations

from collections.abc import Sequence

from vljepa_ros.errors import InputError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.settings import AnswerSettings, check_text
from vljepa_ros.stream.types import Answer, Basis, Moment, Vector

MAX_CANDIDATES = 1000


def check_question(prompt: object, candidates: Sequence[object] = ()) -> None:
    """Raise InputError if a question cannot be asked; before anything is computed."""
    check_text(prompt)
    if len(candidates) > MAX_CANDIDATES:
        raise InputError(f'{len(candidates)} candidates are too many (at most {MAX_CANDIDATES})')
    for candidate in candidates:
        check_text(candidate, 'candidate', may_be_empty=False)


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
        if candidates:
            ranked = tuple(self._language.rank(vector, candidates))
            text, confidence = ranked[0].text, ranked[0].score
        else:
            decoded = self._language.decode(vector[None], asked=True)[0]
            ranked, text, confidence = (), decoded.text, decoded.confidence
        unsure = confidence < self._settings.abstain_below
        return Answer(
            text,
            confidence,
            unsure or self._language.cannot_tell(vector, candidates, text),
            stamp_ns,
            self._language.facts.model_id,
            vector,
            ranked,
            tuple(evidence),
            basis,
        )
