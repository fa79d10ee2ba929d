# SPDX-License-Identifier: Apache-2.0
"""Answers from a predicted vector: when one is an abstention, and what it says then."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FACTS, FakeLanguage, colour_vector

from vljepa_ros.stream.answers import Answerer
from vljepa_ros.stream.settings import AnswerSettings

CHOICES = ['it is red', 'it is blue']


@pytest.mark.parametrize('candidates', [CHOICES, []])
def test_what_nobody_can_tell_is_an_abstention(candidates: list[str]) -> None:
    knowing, doubting = Answerer(FakeLanguage()), Answerer(FakeLanguage(FACTS, unseen='red'))
    for colour, abstained in (('red', True), ('blue', False)):
        vector = colour_vector(colour)
        answer = doubting.answer('?', vector, 7, candidates)
        assert answer.abstained is abstained and colour in answer.answer
        known = knowing.answer('?', vector, 7, candidates)
        assert not known.abstained
        assert (known.answer, known.confidence) == (answer.answer, answer.confidence)


def test_little_confidence_is_an_abstention_whatever_the_model_holds() -> None:
    answerer = Answerer(FakeLanguage(), AnswerSettings(abstain_below=0.6))
    assert answerer.answer('?', colour_vector('red'), 7, ['red', 'a red one']).abstained
    assert not answerer.answer('?', colour_vector('red'), 7, CHOICES).abstained


def test_the_model_is_told_what_it_was_asked_and_what_it_said() -> None:
    told: list[Any] = []

    class Noting(FakeLanguage):
        def decode(self, vectors: Any, asked: bool = False) -> Any:
            told.append(asked)
            return super().decode(vectors, asked)

        def cannot_tell(self, vector: Any, candidates: Any, said: str) -> bool:
            told.append((list(candidates), said))
            return False

    answerer = Answerer(Noting())
    answerer.answer('?', colour_vector('blue'), 7, CHOICES)
    answerer.answer('?', colour_vector('blue'), 7)
    assert told == [(CHOICES, 'it is blue'), True, ([], 'the scene is blue')]
