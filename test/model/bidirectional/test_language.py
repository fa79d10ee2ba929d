# SPDX-License-Identifier: Apache-2.0
"""Text side without a decoder: texts, ranks, and the nearest sentence of a bank."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_bidirectional as tiny

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Language
from vljepa_ros.model import registry
from vljepa_ros.model.checkpoint_config import BankConfig


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp('models') / 'tiny_bidirectional')


def load(folder: Path) -> Language:
    found = registry.load(str(folder), device='cpu', parts=('language',)).language
    assert found is not None
    return found


@pytest.fixture(scope='module')
def language(folder: Path) -> Language:
    return load(folder)


def test_a_text_is_embedded_with_begin_and_end_tokens(language: Language) -> None:
    vocabulary = [*tiny.MARKS, *tiny.WORDS]
    ids = torch.tensor(
        [[vocabulary.index(w) for w in ['<begin>', 'the', 'cup', 'is', 'red', '<end>']]]
    )
    expected = tiny.net().y_encoder(ids, torch.ones_like(ids, dtype=torch.bool))
    found = language.encode(['the cup is red', 'who knows'])
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_nearest_sentence_is_returned_and_flagged(language: Language) -> None:
    vectors = language.encode(['the drawer is shut', 'the robot moves'])
    first, second = language.decode(vectors)
    assert (first.text, second.text) == ('the drawer is shut', 'the robot moves')
    assert first.nearest and {c.text for c in first.alternatives} <= set(tiny.SENTENCES)
    assert 1 >= first.confidence >= first.alternatives[0].score >= 0
    assert language.decode(vectors, asked=True)[0].text == 'the drawer is shut'
    assert language.decode(vectors[:0]) == []


def test_texts_below_the_stored_similarity_are_withheld(tmp_path: Path) -> None:
    config = tiny.config(bank=BankConfig(abstain_below=0.9))
    language = load(tiny.save(tmp_path / 'm', config))
    near = language.encode(['the drawer is open'])
    far = -near
    near_text, withheld = language.decode(np.concatenate([near, far]))
    assert near_text.text == 'the drawer is open' and near_text.confidence > 0
    assert all(near[0] @ language.encode([c.text])[0] >= 0.9 for c in near_text.alternatives)
    assert (withheld.text, withheld.confidence, withheld.alternatives) == ('', 0.0, ())
    assert withheld.nearest
    assert language.is_unanswerable(far[0], [], withheld.text)
    assert not language.is_unanswerable(near[0], [], near_text.text)


@pytest.mark.parametrize(
    ('text', 'pattern'),
    [
        ('', '0 sentences'),
        ('# only a comment\n\n', '0 sentences'),
        ('the cup\n' + 'a ' * 30, r"'a a a .*32 tokens.*24"),
    ],
)
def test_an_unusable_sentence_bank_is_named(tmp_path: Path, text: str, pattern: str) -> None:
    folder = tiny.save(tmp_path / 'm')
    (folder / 'sentences.txt').write_text(text)
    with pytest.raises(ModelError, match=pattern) as caught:
        load(folder)
    assert 'sentences.txt' in str(caught.value)


def test_an_edited_sentence_bank_is_used_after_reloading(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / 'm')
    (folder / 'sentences.txt').write_text('a cup\n# no\nthe red cup\na cup\n')
    language = load(folder)
    assert language.decode(language.encode(['the red cup']))[0].text == 'the red cup'


def test_uncalibrated_scores_are_reported_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(folder)
        assert 'not calibrated' in caplog.text
        caplog.clear()
        load(tiny.save(tmp_path / 'm', tiny.config(calibrated=True)))
        assert 'calibrated' not in caplog.text


def test_ranks_and_similarities_are_scores(language: Language) -> None:
    vector = language.encode(['the cup is red'])[0]
    ranked = language.rank(vector, ['the cup is blue', 'the cup is red', 'who'])
    assert ranked[0].text == 'the cup is red'
    assert sum(c.score for c in ranked) == pytest.approx(1)
    scores = language.similarity(np.stack([vector, -vector]), 'the cup is red')
    assert 0 <= scores[1] < scores[0] <= 1
    assert not language.is_unanswerable(vector, [], 'x')


def test_invalid_texts_are_rejected(language: Language) -> None:
    with pytest.raises(InputError, match='empty'):
        language.check(' ')
    with pytest.raises(InputError, match=r'27 tokens.*24'):
        language.encode(['a ' * 25])
    with pytest.raises(InputError, match='model'):
        language.decode(np.ones((1, 3), np.float32))
