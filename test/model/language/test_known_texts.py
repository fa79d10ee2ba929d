# SPDX-License-Identifier: Apache-2.0
"""Cache of text embeddings, and texts that cannot be embedded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.tiny_streaming import fresh_language, tower

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.language import scoring as text_space


@pytest.fixture
def language(tiny: Any) -> Any:
    """Return a text side with an empty cache."""
    return fresh_language(tiny)


@pytest.fixture
def computed(language: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the texts of every call of the text tower."""
    calls: list[list[str]] = []
    states = tower(language).states

    def count(texts: list[str], limit: int) -> Any:
        calls.append(list(texts))
        return states(texts, limit)

    monkeypatch.setattr(tower(language), 'states', count)
    return calls


def test_a_text_is_embedded_once(language: Any, computed: list[list[str]]) -> None:
    first = language.encode(['it is open', 'it is shut'])
    again = language.encode(['it is shut', 'yes', 'it is shut', 'it is open'])
    assert computed == [['it is open', 'it is shut'], ['yes']]
    assert (again[[3, 0]] == first).all()
    assert (again[2] == first[1]).all()
    assert np.allclose(np.linalg.norm(again, axis=1), 1, atol=1e-5)


def test_the_cache_evicts_the_least_recently_used(
    language: Any, computed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_space, 'KNOWN_TEXTS', 2)
    language.encode(['a', 'b', 'c'])
    language.encode(['b'])  # b and c are cached, and c is older now
    assert len(language.encode(['d', 'e', 'f', 'b'])) == 4
    language.encode(['f', 'b'])
    language.encode(['c'])  # replaces f
    language.encode(['b', 'f'])
    assert computed == [['a', 'b', 'c'], ['d', 'e', 'f'], ['c'], ['f']]


@pytest.mark.parametrize(
    ('text', 'message'),
    [(' ', 'empty'), ('word ' * 70, '72 tokens.* 64')],
)
def test_a_text_that_cannot_be_embedded_is_rejected_before_inference(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    language = fresh_language(tiny)
    monkeypatch.setattr(tower(language), 'states', None)
    with pytest.raises(InputError, match=message):
        language.check(text)
    with pytest.raises(InputError, match=message):
        language.encode(['it is open', text])
    language.check('word ' * 62)  # with [CLS] and [SEP]
