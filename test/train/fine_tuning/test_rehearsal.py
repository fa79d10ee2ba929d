# SPDX-License-Identifier: Apache-2.0
"""Rehearsal data: sentences that the model reproduces, and questions without annotations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.language.generation import Hypothesis
from vljepa_ros.train.fine_tuning.rehearsal import known_prompts, known_sentences


class FakeDecoder:
    """Decodes to the nearest text, but 'c' to 'a'; 'd' is unreadable."""

    facts = SimpleNamespace(embedding_dim=4)
    texts = ('a', 'b', 'c', 'd')

    def check(self, text: str) -> None:
        if text == 'd':
            raise InputError('too long')

    def encode(self, texts: list[str]) -> Any:
        rows = np.eye(4, dtype=np.float32)[[self.texts.index(text) for text in texts]]
        rows[[text == 'c' for text in texts]] = np.eye(4)[0]
        return rows

    def hypotheses(self, vectors: Any, cosines: bool = True) -> list[list[Hypothesis]]:
        assert not cosines
        return [[Hypothesis(self.texts[int(i)], 0.0, 0.0, 0.0)] for i in vectors.argmax(axis=1)]


def test_only_sentences_that_decode_to_themselves_are_kept() -> None:
    found = known_sentences(FakeDecoder(), 0, 64)  # type: ignore[arg-type]
    assert sorted(found) == ['a', 'b']


def test_a_model_without_hypotheses_has_no_known_sentences() -> None:
    without_hypotheses = FakeDecoder()
    without_hypotheses.hypotheses = lambda vectors, cosines: [[] for _ in vectors]  # type: ignore[method-assign]
    assert known_sentences(without_hypotheses, 0, 8) == []  # type: ignore[arg-type]


def test_the_shipped_model_has_distinct_known_sentences(shipped: Any) -> None:
    found = known_sentences(shipped.language, 0, 24)
    assert len(found) == len(set(found)) >= 3
    assert all(text == text.strip().lower() for text in found)


def test_annotated_prompts_are_excluded_from_rehearsal() -> None:
    assert 'Is the light on?' in known_prompts([])
    assert 'Is the light on?' not in known_prompts(['is the light ON?'])
    assert not any('{' in prompt for prompt in known_prompts([]))
