# SPDX-License-Identifier: Apache-2.0
"""Losses against formulas calculated by hand; clips and batches against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.tasks import held_out_color, training_colors
from vljepa_ros.train.augmentation import augment
from vljepa_ros.train.calibration_stage import fit_logistic_regression
from vljepa_ros.train.decoder_stage import IGNORE_INDEX, pad
from vljepa_ros.train.losses import joint_loss, text_loss
from vljepa_ros.train.optimizer import rate
from vljepa_ros.train.text_bank import ConceptTexts, drop_tokens
from vljepa_ros.train.text_stage import draw_concepts
from vljepa_ros.train.vision_stage import state_loss


def test_joint_loss_of_two_orthogonal_pairs() -> None:
    eye, ids = torch.eye(2), torch.tensor([0, 1])
    _, parts = joint_loss(eye, ids, torch.ones(2), eye, torch.tensor(3.0), 0.0)
    expected = math.log(1 + math.exp(-3.0))
    assert parts['prediction_to_text'].item() == pytest.approx(expected, abs=1e-6)
    assert parts['text_to_prediction'].item() == pytest.approx(expected, abs=1e-6)


def test_all_predictions_of_a_concept_are_its_positives() -> None:
    predicted, ids = torch.eye(3)[:2], torch.tensor([2, 2])  # concept 2 is the third axis
    targets = torch.eye(3)
    _, parts = joint_loss(predicted, ids, torch.ones(2), targets, torch.tensor(1.0), 0.0)
    assert parts['prediction_to_text'].item() == pytest.approx(math.log(math.e + 2), abs=1e-6)
    assert parts['text_to_prediction'].item() == pytest.approx(
        math.log(2), abs=1e-6
    )  # both at cosine 0


def test_the_loss_is_weighted_by_the_weights_of_the_predictions() -> None:
    predicted, targets = torch.eye(2)[[0, 0]], torch.eye(2)
    ids, scale = torch.tensor([0, 1]), torch.tensor(3.0)
    _, parts = joint_loss(predicted, ids, torch.tensor([3.0, 1.0]), targets, scale, 0.0)
    right, wrong = math.log(1 + math.exp(-3.0)), math.log(1 + math.exp(3.0))
    assert parts['prediction_to_text'].item() == pytest.approx((3 * right + wrong) / 4, abs=1e-6)


def test_only_paraphrases_are_positives_among_texts() -> None:
    texts = torch.eye(3)[[0, 0, 1, 2]]  # two paraphrases of one concept, and two single concepts
    loss = text_loss(texts, torch.tensor([0, 0, 1, 2]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 2) - 2, abs=1e-6)


def test_texts_without_paraphrases_have_no_loss() -> None:
    assert text_loss(torch.eye(2), torch.tensor([0, 1]), 0.1).item() == 0.0


def test_compatible_concepts_are_neither_positives_nor_negatives() -> None:
    also = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    ids, scale = torch.tensor([0, 2]), torch.tensor(1.0)
    predicted, targets = torch.eye(3)[[0, 2]], torch.eye(3)
    _, parts = joint_loss(predicted, ids, torch.ones(2), targets, scale, 0.0, also)
    alone = [
        math.log(math.e + 1) - 1,
        math.log(math.e + 2) - 1,
    ]  # negatives: two without the compatible one, and two
    assert parts['prediction_to_text'].item() == pytest.approx(sum(alone) / 2, abs=1e-6)
    texts = torch.eye(3)[[0, 0, 1, 2]]
    near = torch.zeros(4, 4, dtype=torch.bool)
    near[:2, 2], near[2, :2] = True, True
    loss = text_loss(texts, torch.tensor([0, 0, 1, 2]), temperature=0.5, also=near)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=1e-6)


def test_the_gap_term_is_zero_for_predictions_equal_to_their_texts() -> None:
    texts, ids = torch.eye(4), torch.arange(4)
    _, parts = joint_loss(texts, ids, torch.ones(4), texts, torch.tensor(10.0), 0.5)
    assert parts['gap'].item() == pytest.approx(0.0, abs=1e-6)
    _, parts = joint_loss(-texts, ids, torch.ones(4), texts, torch.tensor(10.0), 0.5)
    assert parts['gap'].item() == pytest.approx(2.0, abs=1e-6)


def test_negatives_are_similar_concepts_that_are_not_in_the_batch() -> None:
    concept_texts, rng = ConceptTexts(concepts=CONCEPTS), np.random.default_rng(0)
    colour = training_colors('drawer-open')[0]
    present = [f'act:drawer-open:{colour}', 'rest', 'yes']
    found = concept_texts.negatives(present, 200, rng)
    assert not set(found) & set(present)
    near = [m for m in found if m.startswith('act:drawer-open:')]
    assert len(near) >= 4 and f'done:drawer-open:{colour}' in found


def test_compatible_concepts_are_the_colorless_one_and_the_final_state() -> None:
    concept_texts = ConceptTexts(concepts=CONCEPTS)
    holds = concept_texts.also_holds(concept_texts.names)
    done = concept_texts.number['done:drawer-open:white']
    found = {concept_texts.names[i] for i in holds[done].nonzero().flatten().tolist()}
    assert found == {'done:drawer-open:any', 'is:drawer:open'}
    assert (holds == holds.T).all() and not holds.diagonal().any()
    for alone in ('yes', 'rest', 'colour:red'):
        assert not holds[concept_texts.number[alone]].any()


def test_a_negated_sentence_has_a_separate_concept() -> None:
    concept_texts, rng = ConceptTexts(concepts=CONCEPTS), np.random.default_rng(0)
    negated = concept_texts.negated('done:drawer-open:white')
    texts = {concept_texts.draw_paraphrase(negated, rng) for _ in range(200)}
    assert len(texts) > 20 and all(' not ' in t or "n't" in t or 'no longer' in t for t in texts)
    assert all('white drawer' in text for text in texts)
    assert concept_texts.negated('rest') and not concept_texts.negated('yes')
    assert not concept_texts.negated('object:mug:red') and not concept_texts.negated(
        'is:drawer:open'
    )


def test_a_negated_state_is_compatible_with_the_opposite_state_only() -> None:
    names = [
        'not:done:drawer-open:white',
        'not:done:drawer-open:any',
        'is:drawer:closed',
        'done:drawer-close:white',
        'done:drawer-open:white',
        'is:drawer:open',
        'act:drawer-open:white',
        'not:rest',
    ]
    holds = ConceptTexts(concepts=CONCEPTS).also_holds(names)
    assert [names[i] for i in holds[0].nonzero().flatten()] == names[1:4]
    assert (holds == holds.T).all() and not holds[-1].any()


def test_stage_1_draws_concepts_together_with_their_negations() -> None:
    names = draw_concepts(ConceptTexts(concepts=CONCEPTS), 160, np.random.default_rng(0))
    negated = [name for name in names if name.startswith('not:')]
    assert len(negated) > 10 and len(set(names)) == len(names)
    assert all(name.removeprefix('not:') in names for name in negated)


def test_full_sentence_answers_are_encoded_but_not_decoded() -> None:
    concept_texts, rng = ConceptTexts(concepts=CONCEPTS), np.random.default_rng(0)
    drawn = {concept_texts.draw_paraphrase('yes', rng) for _ in range(400)}
    assert drawn & set(concept_texts.sentences['yes']) and drawn & set(concept_texts.read['yes'])
    assert all(text.startswith('yes, ') for text in concept_texts.read['yes'])
    act = {concept_texts.draw_paraphrase('act:drawer-open:white', rng) for _ in range(200)}
    assert 'opening the white drawer' in act
    assert 'opening the white drawer' not in concept_texts.sentences['act:drawer-open:white']


def test_there_are_more_than_a_thousand_concepts() -> None:
    assert len(ConceptTexts(concepts=CONCEPTS).names) > 1300


def test_an_annotated_text_is_a_concept() -> None:
    concept_texts = ConceptTexts({'say:the cup is full': ('The cup is full.', 'the cup is full')})
    assert set(concept_texts.names) == {'yes', 'no', 'unknown', 'say:the cup is full'}


def test_unknown_values_do_not_add_to_the_state_loss() -> None:
    nan = float('nan')
    state = torch.tensor([[1.0, 0.0, nan, nan], [nan, nan, nan, 1.0]])
    loss = state_loss(torch.zeros(2, 4), state)
    assert loss.item() == pytest.approx(math.log(2))
    assert state_loss(torch.zeros(1, 4), torch.full((1, 4), nan)).item() == 0.0
    sure = torch.tensor([[9.0, -9.0, 5.0, 5.0], [5.0, 5.0, 5.0, 9.0]])
    assert state_loss(sure, state).item() < 0.001


def test_token_dropout_drops_a_fraction_but_never_the_first_token() -> None:
    torch.manual_seed(0)
    mask = torch.ones(400, 20, dtype=torch.bool)
    mask[:, 15:] = False
    kept = drop_tokens(mask, 0.2)
    assert kept[:, 0].all() and not kept[:, 15:].any()
    assert kept[:, 1:15].float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (drop_tokens(mask, 0.0) == mask).all()


def test_held_out_combinations_are_in_no_training_text() -> None:
    concept_texts = ConceptTexts(concepts=CONCEPTS)
    colour = held_out_color('dial-turn')
    training_texts = {text for texts in concept_texts.sentences.values() for text in texts}
    assert not any({colour, 'dial'} <= set(text.split()) for text in training_texts)


def test_padding_ends_each_sentence_once() -> None:
    inputs, targets = pad([[5, 6], [7]])
    assert inputs.tolist() == [[5, 6], [7, 0]]
    assert targets.tolist() == [[5, 6, 0], [7, 0, IGNORE_INDEX]]


def test_augmentation_keeps_black_frames_black_and_equal_frames_equal() -> None:
    rng = np.random.default_rng(0)
    assert augment(np.zeros((3, 16, 16, 3), np.uint8), rng).max() == 0
    same = augment(np.repeat(rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8), 4, axis=0), rng)
    assert (same == same[0]).all()


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [rate(1.0, step, 10, 100) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == 1.0
    assert rates[-1] < 0.03 and all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_logistic_regression_finds_the_coefficients() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, 20_000)
    y = rng.random(20_000) < 1 / (1 + np.exp(-(1.5 * x - 2.0)))
    (slope,), bias = fit_logistic_regression(x[:, None], y, ridge=0.0)
    assert slope == pytest.approx(1.5, rel=0.05) and bias == pytest.approx(-2.0, rel=0.08)


@pytest.mark.parametrize('columns', [1, 4, 30])
def test_logistic_regression_equals_scikit_learn(columns: int) -> None:
    """scikit-learn gets the two samples of the Laplace smoothing as additional rows."""
    linear_model = pytest.importorskip('sklearn.linear_model')
    rng, ridge = np.random.default_rng(0), 1e-2
    x = rng.normal(2.0, 0.5, (400, columns))
    y = rng.random(400) < 1 / (1 + np.exp(-(x - 2.0) @ rng.normal(size=columns)))
    mean, spread = x.mean(axis=0), x.std(axis=0)
    rows = np.concatenate([(x - mean) / spread, np.zeros((2, columns))])
    reference = linear_model.LogisticRegression(C=1 / (2 * ridge * len(x)), tol=1e-9)
    reference.fit(rows, np.append(y, [True, False]))
    slopes, bias = fit_logistic_regression(x, y, ridge)
    assert np.array(slopes) * spread == pytest.approx(reference.coef_[0], abs=1e-3)
    assert bias + slopes @ mean == pytest.approx(reference.intercept_[0], abs=1e-3)
