# SPDX-License-Identifier: Apache-2.0
"""Scores and confidences: the formulas of the calibration, calculated by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_streaming import fresh_language, network

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.text import yes_among
from vljepa_ros.model import registry
from vljepa_ros.model.config import CalibrationConfig, ModelConfig, YEncoderConfig
from vljepa_ros.model.language.generation import Hypothesis, TextGenerator
from vljepa_ros.model.language.y_decoder import END
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.streaming.text import TextLanguage

# Cosines of these texts to the vector (1, 0, 0, ...).
COSINES = {'yes': 0.6, 'no': 0.5, 'cannot tell': 0.4, 'red': 0.6, 'blue': 0.5, 'green': 0.4}
UNKNOWN = {'unknown': 'cannot tell', 'rank_temperature': 0.1}
# softmax(2, 1, 0), and softmax(3, 2, 1, 1) as e^2, e, 1, 1 over their sum.
THREE = (0.66524096, 0.24472847, 0.09003057)
FOUR = (0.61029569, 0.22451524, 0.08259454, 0.08259454)


@pytest.fixture
def language(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> TextLanguage:
    text_side = fresh_language(tiny)

    def encode(texts: Sequence[str]) -> Any:
        rows = np.zeros((len(texts), tiny.facts.embedding_dim), np.float32)
        rows[:, 0] = [COSINES[text] for text in texts]
        return rows

    monkeypatch.setattr(text_side, 'encode', encode)
    return text_side


@pytest.fixture
def vector(tiny: Any) -> Any:
    return np.eye(1, tiny.facts.embedding_dim, dtype=np.float32)[0]


def test_unknown_competes_with_all_candidates(language: TextLanguage, vector: Any) -> None:
    language.calibration = CalibrationConfig(**UNKNOWN)
    ranked = language.rank(vector, ['blue', 'green', 'red'])
    assert [c.text for c in ranked] == ['red', 'blue', 'green']
    assert [c.score for c in ranked] == pytest.approx(FOUR[:3], abs=1e-6)
    assert language.unknown_share(vector, ['blue', 'green', 'red']) == pytest.approx(FOUR[3])
    assert language.rank(vector, []) == []


def test_yes_no_questions_have_a_separate_temperature(language: TextLanguage, vector: Any) -> None:
    language.calibration = CalibrationConfig(
        rank_temperature=5.0, yes_no_temperature=0.1, unknown='cannot tell'
    )
    ranked = language.rank(vector, ['no', 'yes'])
    assert [c.score for c in ranked] == pytest.approx(THREE[:2], abs=1e-6)
    hot = [c.score for c in language.rank(vector, ['red', 'blue'])]  # at a temperature of 5
    assert 0.3 < hot[1] < hot[0] < 0.35
    language.calibration = CalibrationConfig(**UNKNOWN)  # 0: as others
    assert [c.score for c in language.rank(vector, ['no', 'yes'])] == pytest.approx(
        THREE[:2], abs=1e-6
    )


def test_a_bias_is_added_to_the_logit_of_unknown(language: TextLanguage, vector: Any) -> None:
    language.calibration = CalibrationConfig(**UNKNOWN, unknown_bias=1.0)
    # Logits 6, 5 and 4 + 1.
    expected = np.exp([1, 0, 0]) / np.exp([1, 0, 0]).sum()
    for texts in (['red', 'blue'], ['yes', 'no']):  # the pair has no scale of its own here
        assert [c.score for c in language.rank(vector, texts)] == pytest.approx(
            expected[:2], abs=1e-6
        )
        assert language.unknown_share(vector, texts) == pytest.approx(expected[2], abs=1e-6)
    language.calibration = CalibrationConfig(
        **UNKNOWN, unknown_bias=9.0, yes_no_temperature=0.1, yes_no_unknown_bias=1.0
    )
    assert language.unknown_share(vector, ['yes', 'no']) == pytest.approx(expected[2], abs=1e-6)


def test_the_yes_bias_applies_only_to_yes_no_pairs(language: TextLanguage, vector: Any) -> None:
    language.calibration = CalibrationConfig(**UNKNOWN, yes_bias=-2.0)
    weight = np.exp([6 - 2, 5, 4])  # yes, no, cannot tell
    for texts in (['no', 'yes'], ['yes', 'no']):
        found = {c.text: c.score for c in language.rank(vector, texts)}
        assert [found['yes'], found['no']] == pytest.approx((weight / weight.sum())[:2], abs=1e-6)
    found = {c.text: c.score for c in language.rank(vector, ['yes', 'no', 'red'])}
    assert found['yes'] == found['red']  # no pair, and equal cosines


@pytest.mark.parametrize(
    ('texts', 'yes'),
    [
        (['yes', 'no'], 0),
        (['No, it is not.', 'YES, it is'], 1),
        (['"yes"', ' no'], 0),
        (['yes', 'no', 'red'], None),
        (['yes', 'yes, it is'], None),
        (['yes', 'north'], None),
        (['yes', 'no', '!'], None),
        (['yes'], None),
        ([], None),
    ],
)
def test_a_yes_no_pair_is_detected_by_its_first_words(texts: list[str], yes: int | None) -> None:
    assert yes_among(texts) == yes


def test_an_answer_is_an_abstention_above_the_threshold_only(
    language: TextLanguage, vector: Any
) -> None:
    for above, abstained in ((0.0900, True), (0.0901, False)):
        language.calibration = CalibrationConfig(**UNKNOWN, abstain_above=above)
        assert language.is_unanswerable(vector, ['yes', 'no'], 'yes') is abstained


def test_a_decoded_text_competes_with_unknown_at_a_separate_threshold(
    language: TextLanguage, vector: Any
) -> None:
    share = float(1 / (1 + np.exp(2)))  # of 0.4 beside 0.6 at 0.1
    for threshold, abstained in ((share - 1e-4, True), (share + 1e-4, False)):
        language.calibration = CalibrationConfig(
            **UNKNOWN, abstain_above=0.0, abstain_words_above=threshold
        )
        assert language.is_unanswerable(vector, [], 'red') is abstained
    assert language.is_unanswerable(vector, [], '')  # no text was decoded


def test_unknown_as_a_candidate_counts_once(language: TextLanguage, vector: Any) -> None:
    language.calibration = CalibrationConfig(**UNKNOWN, abstain_above=0.08)
    candidates = ['green', 'cannot tell', 'red']
    ranked = language.rank(vector, candidates)
    assert sum(c.score for c in ranked) == pytest.approx(1.0)
    assert language.unknown_share(vector, candidates) == pytest.approx(1 / (np.exp(2) + 2))
    assert language.is_unanswerable(vector, candidates, 'red')


def test_a_model_without_unknown_ranks_by_softmax_and_never_abstains(
    tiny: Any,
) -> None:
    language = fresh_language(tiny)
    vector, texts = language.encode(['it is dark'])[0], ['yes', 'no', 'it is dark']
    logit = (language.encode(texts) @ vector).astype(np.float64) / 0.07
    score = np.exp(logit - logit.max())
    score /= score.sum()
    order = np.argsort(-score, kind='stable')
    ranked = [(c.text, c.score) for c in language.rank(vector, texts)]
    assert ranked == [(texts[i], float(score[i])) for i in order]  # to the last bit
    assert not language.is_unanswerable(vector, texts, 'no')
    assert not language.is_unanswerable(vector, [], '')

    vectors = language.encode(['a', 'b', 'c'])
    rows = language.hypotheses(vectors)
    for asked in (False, True):
        for decoded, row in zip(language.decode(vectors, asked), rows, strict=True):
            log_probability = row[0].log_probability
            assert decoded.text == row[0].text
            assert decoded.confidence == float(1 / (1 + np.exp(-(2.0 * log_probability + 2.0))))
            assert len(decoded.alternatives) == len(row) - 1


class Beams(torch.nn.Module):
    """Y-Decoder that generates the same texts with given log-probabilities for every vector."""

    def __init__(self, texts: dict[str, float]) -> None:
        super().__init__()
        self.texts = texts
        self.token = torch.nn.Embedding(len(texts) + 1, 2)
        self.token_ids = torch.arange(-1, len(texts))  # local id 0 is END

    def generate(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.tensor([[i + 1, END] for i in range(len(self.texts))])
        scores = torch.tensor([*self.texts.values()], dtype=torch.float64)
        return rows.expand(len(vectors), -1, -1), scores.expand(len(vectors), -1)

    def text_of(self, ids: Sequence[int]) -> str:
        return [*self.texts][ids[0]]


class Embeddings:
    """Text side with some embeddings; all other texts are too long."""

    def __init__(self, vectors: dict[str, tuple[float, float]]) -> None:
        self.vectors = vectors

    def check(self, text: str) -> None:
        if text not in self.vectors:
            raise InputError('too long')

    def encode(self, texts: Sequence[str]) -> Any:
        return np.array([self.vectors[text] for text in texts], np.float32).reshape(-1, 2)


def hypotheses(
    texts: dict[str, float], vectors: Any, space: Any, cosines: bool = True
) -> list[list[Hypothesis]]:
    """Return the hypotheses for vectors from texts with their mean log-probabilities."""
    beams: Any = Beams(texts)
    rows = np.array(vectors, np.float32)
    return TextGenerator(beams, beams.text_of).hypotheses(rows, space, cosines)


def test_the_margin_is_the_difference_to_the_best_other_text() -> None:
    space = Embeddings({'a b': (0.6, 0.8)})
    (found,) = hypotheses({'a b': -0.1, 'c': -0.5, 'd': -9.0}, [[0.0, 1.0]], space)
    assert [s.text for s in found] == ['a b', 'c', 'd']
    assert [s.margin for s in found] == pytest.approx([0.4, -0.4, -5.0])
    assert [s.cosine for s in found] == pytest.approx([0.8, -1.0, -1.0])
    assert [s.words for s in found] == [2, 1, 1]
    (alone,) = hypotheses({'a': -0.1}, [[0.0, 1.0]], space, cosines=False)
    assert alone == [Hypothesis('a', -0.1, 5.0, 0.0)]


def test_text_confidence_is_a_weighted_sum_of_its_inputs(
    language: TextLanguage, vector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = [Hypothesis('the arm is still', -0.5, 0.2, 0.8), Hypothesis('it rests', -0.7, -0.2, 0.5)]
    monkeypatch.setattr(language, 'hypotheses', lambda vectors: [row])
    parts = {'slope': 2.0, 'margin': 0.5, 'cosine': 3.0, 'words': -0.25, 'bias': -1.0}
    for prefix in ('decode', 'answer'):
        fitted = {f'{prefix}_{name}': value for name, value in parts.items()}
        language.calibration = CalibrationConfig(**fitted)
        decoded = language.decode(vector[None], asked=prefix == 'answer')[0]
        # -1 + 0.1 + 2.4 - 1 - 1, and -1.4 - 0.1 + 1.5 - 0.5 - 1
        assert decoded.confidence == pytest.approx(1 / (1 + np.exp(0.5)))
        assert decoded.alternatives[0].score == pytest.approx(1 / (1 + np.exp(1.5)))
    language.calibration = CalibrationConfig(decode_cosine=1.0, answer_bias=0.5)
    assert language.decode(vector[None], asked=True)[0].confidence == pytest.approx(
        1 / (1 + np.exp(-0.5))
    )


def test_text_confidence_depends_on_the_vectors_direction(
    language: TextLanguage, vector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = [Hypothesis('it rests', -0.5, 0.2, 0.8)]
    monkeypatch.setattr(language, 'hypotheses', lambda vectors: [row for _ in vectors])
    direction = np.random.default_rng(0).normal(size=len(vector)).tolist()
    language.calibration = CalibrationConfig(
        decode_slope=2.0, decode_bias=0.5, decode_direction=tuple(direction)
    )
    vectors = np.stack([vector, -vector])
    expected = 1 / (1 + np.exp(0.5 - vectors.astype(float) @ direction))  # 2 * -0.5 + 0.5
    found = [decoded.confidence for decoded in language.decode(vectors)]
    assert found == pytest.approx(expected.tolist())
    assert [d.confidence for d in language.decode(vectors, asked=True)] == pytest.approx(found)


@pytest.mark.parametrize('name', ['decode_direction', 'answer_direction'])
def test_a_direction_is_saved_and_loaded_or_rejected(tiny: Any, tmp_path: Path, name: str) -> None:
    def stored(numbers: tuple[float, ...]) -> ModelConfig:
        return dataclasses.replace(
            network(tiny.vision).config, calibration=CalibrationConfig(**{name: numbers})
        )

    numbers = tuple(np.linspace(-1, 1, tiny.facts.embedding_dim).round(4).tolist())
    for given in (numbers, ()):
        registry.save(VLJEPA(stored(given)), tmp_path)
        assert getattr(registry.read_config(tmp_path).calibration, name) == given
    lines = (tmp_path / registry.CONFIG).read_text().splitlines()
    assert len(lines) < 100 and max(map(len, lines)) <= 100
    registry.save(VLJEPA(stored((0.5, 0.25))), tmp_path)
    with pytest.raises(ModelError, match=rf'calibration\.{name} .*2'):
        registry.load(str(tmp_path))


def test_the_hypothesis_nearest_to_the_vector_is_first() -> None:
    texts, vectors = {'b': -0.1, 'a': -0.9, 'c': -0.2}, [[0.8, 0.6], [0.6, 0.8]]
    space = Embeddings({'a': (1.0, 0.0), 'b': (0.0, 1.0)})
    first, second = hypotheses(texts, vectors, space)
    assert [(s.text, round(s.cosine, 3)) for s in first] == [('a', 0.8), ('b', 0.6), ('c', -1.0)]
    assert [s.text for s in second] == ['b', 'a', 'c']
    (likeliest,) = hypotheses(texts, vectors[:1], space, cosines=False)
    assert [(s.text, s.cosine) for s in likeliest] == [('b', 0.0), ('a', 0.0), ('c', 0.0)]


def test_a_text_too_long_to_embed_has_the_lowest_cosine(tiny: Any) -> None:
    language = fresh_language(tiny)
    vector = language.encode(['it is dark'])
    (found,) = hypotheses({'word ' * 70: -0.1, 'it is dark': -0.2}, vector, language)
    assert [(s.text, s.cosine) for s in found] == [
        ('it is dark', pytest.approx(1.0)),
        ('word ' * 70, -1.0),
    ]


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'abstain_above': 1.5}, 'calibration.abstain_above (1.5)'),
        ({'abstain_words_above': -0.1}, 'calibration.abstain_words_above (-0.1)'),
        ({'yes_no_temperature': 1e-9}, 'calibration.yes_no_temperature (1e-09)'),
        ({'decode_margin': float('nan')}, 'calibration.decode_margin'),
        ({'answer_cosine': float('inf')}, 'calibration.answer_cosine'),
        ({'decode_direction': (0.0, float('nan'))}, 'calibration.decode_direction'),
        ({'unknown': ' cannot tell'}, "calibration.unknown (' cannot tell')"),
        ({'unknown': 'x' * 11}, "calibration.unknown ('xxxxxxxxxxx')"),
    ],
)
def test_an_invalid_calibration_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig(
            'm', y_encoder=YEncoderConfig(max_tokens=12), calibration=CalibrationConfig(**values)
        )
    assert message in str(caught.value)


def test_short_texts_for_unknown_are_accepted() -> None:
    ModelConfig(
        'm', y_encoder=YEncoderConfig(max_tokens=1), calibration=CalibrationConfig(unknown='')
    )
    ModelConfig(
        'm',
        y_encoder=YEncoderConfig(max_tokens=12),
        calibration=CalibrationConfig(unknown='x' * 10),
    )
