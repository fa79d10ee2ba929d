# SPDX-License-Identifier: Apache-2.0
"""Annotated sentences are separated in the embedding space; rehearsed ones keep their vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vljepa_ros.model import registry
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.fine_tuning.text_stage import TextFineTuning
from vljepa_ros.train.text_bank import ConceptTexts, TextBank

ANNOTATED = {
    'say:the left drawer is open': ('The left drawer is open.',),
    'say:the right drawer is open': ('The right drawer is open.', 'the right drawer is  open'),
    'say:the kettle boils': ('The kettle boils.',),
}
REHEARSED = ['the robot opens the red drawer', 'the arm is at rest', 'the mug is on the table']


@pytest.fixture(scope='module')
def bank() -> TextBank:
    config = registry.read_config(registry.find('small'))
    return TextBank(TextTower(config.text_tower, torch.device('cpu')))


@pytest.fixture
def encoder() -> YEncoder:
    """Return the encoder of the shipped model."""
    folder = registry.find('small')
    net = VLJEPA(registry.read_config(folder), ('y_encoder',))
    registry.load_weights(net, folder / registry.WEIGHTS, ('y_encoder',))
    return net.y_encoder


def embedded(encoder: YEncoder, bank: TextBank, texts: list[str]) -> Tensor:
    with torch.no_grad():
        found: Tensor = encoder(*bank.states(texts))
    return found


def test_similar_annotated_sentences_are_separated(encoder: YEncoder, bank: TextBank) -> None:
    left, right = 'The left drawer is open.', 'The right drawer is open.'
    held_out = ['the drawer that is red is being opened', 'it is at rest', 'yes', 'cannot tell']
    before = embedded(encoder, bank, [left, right])
    assert before[0] @ before[1] > 0.95
    before_others = embedded(encoder, bank, [*REHEARSED, *held_out])
    texts = TextFineTuning(encoder, bank, ConceptTexts(ANNOTATED), REHEARSED)
    texts.train(40, seed=0)
    after = embedded(encoder, bank, [left, right])
    assert after[0] @ after[1] < 0.6
    cosine = (embedded(encoder, bank, [*REHEARSED, *held_out]) * before_others).sum(dim=-1)
    assert cosine[: len(REHEARSED)].min() > 0.95  # rehearsed sentences
    assert cosine.mean() > 0.9  # rehearsed and other sentences


def test_targets_are_annotated_concepts_followed_by_rehearsed_sentences(
    encoder: YEncoder, bank: TextBank
) -> None:
    concept_texts = ConceptTexts(ANNOTATED)
    texts = TextFineTuning(encoder, bank, concept_texts, REHEARSED)
    targets = texts.targets()
    assert targets.shape == (len(concept_texts.names) + len(REHEARSED), 256)
    own = embedded(encoder, bank, ['The kettle boils.'])[0]
    assert torch.allclose(targets[concept_texts.number['say:the kettle boils']], own, atol=1e-5)
    assert torch.allclose(targets[-1], embedded(encoder, bank, REHEARSED[-1:])[0], atol=1e-5)


def test_a_rehearsed_sentence_with_a_similar_text_is_not_a_negative(
    encoder: YEncoder, bank: TextBank
) -> None:
    annotated = {'say:the arm rests': ('The arm rests.',)}
    concept_texts = ConceptTexts(annotated)
    texts = TextFineTuning(
        encoder, bank, concept_texts, ['the arm is at rest', 'the mug is on the table']
    )
    row = texts.also[concept_texts.number['say:the arm rests']]
    assert row[-2:].tolist() == [True, False]
    # Annotated texts are never compatible with each other.
    assert not row[: len(concept_texts.names)].any()


def test_without_annotated_texts_nothing_is_trained(encoder: YEncoder, bank: TextBank) -> None:
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    TextFineTuning(encoder, bank, ConceptTexts({}), []).train(3, seed=0)
    assert all(torch.equal(before[key], v) for key, v in encoder.state_dict().items())
