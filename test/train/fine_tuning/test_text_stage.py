# SPDX-License-Identifier: Apache-2.0
"""Annotated sentences are separated in the embedding space, and known ones keep their vectors."""

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

TOLD = {
    'say:the left drawer is open': ('The left drawer is open.',),
    'say:the right drawer is open': ('The right drawer is open.', 'the right drawer is  open'),
    'say:the kettle boils': ('The kettle boils.',),
}
KNOWN = ['the robot opens the red drawer', 'the arm is at rest', 'the mug is on the table']


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


def test_sentences_that_were_one_place_come_apart(encoder: YEncoder, bank: TextBank) -> None:
    left, right = 'The left drawer is open.', 'The right drawer is open.'
    held_out = ['the drawer that is red is being opened', 'it is at rest', 'yes', 'cannot tell']
    before = embedded(encoder, bank, [left, right])
    assert before[0] @ before[1] > 0.95
    known = embedded(encoder, bank, [*KNOWN, *held_out])
    texts = TextFineTuning(encoder, bank, ConceptTexts(TOLD), KNOWN)
    texts.train(40, seed=0)
    after = embedded(encoder, bank, [left, right])
    assert after[0] @ after[1] < 0.6
    stayed = (embedded(encoder, bank, [*KNOWN, *held_out]) * known).sum(dim=-1)
    assert stayed[: len(KNOWN)].min() > 0.95  # those that are held
    assert stayed.mean() > 0.9  # and those that are not


def test_targets_are_peoples_meanings_and_then_known_sentences(
    encoder: YEncoder, bank: TextBank
) -> None:
    meanings = ConceptTexts(TOLD)
    texts = TextFineTuning(encoder, bank, meanings, KNOWN)
    targets = texts.targets()
    assert targets.shape == (len(meanings.names) + len(KNOWN), 256)
    own = embedded(encoder, bank, ['The kettle boils.'])[0]
    assert torch.allclose(targets[meanings.number['say:the kettle boils']], own, atol=1e-5)
    assert torch.allclose(targets[-1], embedded(encoder, bank, KNOWN[-1:])[0], atol=1e-5)


def test_a_known_sentence_that_may_say_the_same_is_no_rival(
    encoder: YEncoder, bank: TextBank
) -> None:
    told = {'say:the arm rests': ('The arm rests.',)}
    meanings = ConceptTexts(told)
    texts = TextFineTuning(
        encoder, bank, meanings, ['the arm is at rest', 'the mug is on the table']
    )
    row = texts.also[meanings.number['say:the arm rests']]
    assert row[-2:].tolist() == [True, False]
    assert not row[: len(meanings.names)].any()  # annotated texts are never equal to the others


def test_without_texts_of_ones_own_nothing_is_trained(encoder: YEncoder, bank: TextBank) -> None:
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    TextFineTuning(encoder, bank, ConceptTexts({}), []).train(3, seed=0)
    assert all(torch.equal(before[key], v) for key, v in encoder.state_dict().items())
