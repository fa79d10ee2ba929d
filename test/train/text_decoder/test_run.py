# SPDX-License-Identifier: Apache-2.0
"""Training of a text decoder: the modality gap must not change the decoded texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Decoded
from vljepa_ros.model.config import CalibrationConfig, YDecoderConfig
from vljepa_ros.model.language.generation import TextGenerator
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig
from vljepa_ros.train.text_decoder.pairs import KnownPredictions, PredictionPair
from vljepa_ros.train.text_decoder.run import Space, TextDecoderTraining, TrainedTextDecoder

DIM = 32
COLORS, THINGS = ('red', 'green', 'blue', 'white'), ('cup', 'drawer', 'door', 'box')
STATES = ('open', 'shut', 'gone')
TEXTS = [f'the {c} {t} is {s}' for c, t, s in product(COLORS, THINGS, STATES)]
WORDS = sorted({word for text in TEXTS for word in text.split()})
DECODER = YDecoderConfig(width=64, layers=2, heads=4, prefix_tokens=2, max_tokens=8, beams=2)


class BagOfWords(TextSpace):
    """Text side: the vector of a text is the sum of random vectors of its words."""

    def __init__(self) -> None:
        super().__init__(ModelFacts('bag-1', DIM, 8, 10.0, 2, 4, 4), CalibrationConfig())
        rng = np.random.default_rng(0)
        self._words = {word: rng.normal(size=DIM).astype(np.float32) for word in WORDS}

    def check(self, text: str) -> None:
        pass

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [sum(self._words.get(word, np.ones(DIM)) for word in t.split()) for t in texts]
        return unit(np.stack(rows)) if rows else np.zeros((0, DIM), np.float32)

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        raise NotImplementedError


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def space() -> Space:
    def pieces(text: str) -> list[int]:
        return [1 + WORDS.index(word) for word in text.split()]

    def text_of(ids: Sequence[int]) -> str:
        return ' '.join(WORDS[i - 1] for i in ids)

    return Space(BagOfWords(), pieces, text_of)


def predicted(texts: Sequence[str], seed: int) -> NDArray[np.float32]:
    """Return predictions with a modality gap: shifted, and with noise in a few directions."""
    fixed = np.random.default_rng(7)
    offset = unit(fixed.normal(size=(1, DIM))) * 1.2
    directions = unit(fixed.normal(size=(3, DIM)))
    rng = np.random.default_rng(seed)
    spread = 0.35 * rng.normal(size=(len(texts), 3)) @ directions
    return unit(BagOfWords().encode(texts) + offset + spread)


def known_predictions(count: int, with_texts: bool = True) -> KnownPredictions:
    texts = [TEXTS[i % len(TEXTS)] for i in range(count)]
    vectors = predicted(texts, seed=1)
    pairs = tuple(PredictionPair(v, t, False) for v, t in zip(vectors, texts, strict=True))
    return KnownPredictions((vectors, vectors[:0]), pairs if with_texts else ())


def config(**changed: object) -> TextDecoderTrainingConfig:
    values: dict[str, object] = {
        'model': 'bag',
        'sentences': ('texts.txt',),
        'y_decoder': DECODER,
        'steps': 350,
        'batch': 64,
        'learning_rate': 3e-3,
    }
    return TextDecoderTrainingConfig(**(values | changed))  # type: ignore[arg-type]


def train(captions: KnownPredictions, **changed: object) -> TrainedTextDecoder:
    return TextDecoderTraining(space(), TEXTS, captions, config(**changed)).train()


def decode(
    found: TrainedTextDecoder, vectors: NDArray[np.float32], asked: bool = False
) -> list[str]:
    moved = found.decoder.bridge(torch.from_numpy(vectors), asked).numpy()
    generator = TextGenerator(found.decoder.y_decoder, space().text_of)
    return [row[0].text for row in generator.hypotheses(moved, space().language)]


def accuracy(found: TrainedTextDecoder) -> float:
    texts = decode(found, predicted(TEXTS, seed=2))
    return float(np.mean([a == b for a, b in zip(texts, TEXTS, strict=True)]))


def test_an_offset_with_anisotropic_noise_does_not_change_the_texts() -> None:
    found = train(known_predictions(300))
    assert found.noise == 'measured'
    assert found.metrics.again > 0.95
    assert accuracy(found) > 0.95
    plain = train(known_predictions(300), recentre=False, noise='none')
    assert accuracy(plain) < 0.6  # without re-centering and noise


def test_the_modality_gap_is_estimated_from_predictions_without_texts() -> None:
    found = train(known_predictions(300, with_texts=False))
    assert found.noise == 'even 0.7' and np.isnan(found.metrics.cider)
    assert accuracy(found) > 0.9
    gap = found.decoder.bridge.gap.numpy()
    np.testing.assert_allclose(gap[0], gap[1])  # no predictions for questions


def test_the_noise_length_with_the_best_cider_is_chosen() -> None:
    few = known_predictions(60)
    found = train(few, noise_length=(10.0, 0.7), steps=150)
    assert found.noise == 'even 0.7'  # noise of length 10 hides the texts
    assert found.metrics.cider > 5
    with pytest.raises(InputError, match='2'):
        train(known_predictions(60, with_texts=False), noise_length=(0.5, 0.3))
    with pytest.raises(InputError, match='20 annotated'):
        train(known_predictions(19), noise_length=(0.5, 0.3))


def test_measured_noise_requires_enough_pairs() -> None:
    with pytest.raises(InputError, match=r'200 pairs .*199'):
        train(known_predictions(199), noise='measured')
    assert train(known_predictions(200), steps=1).noise == 'measured'
    assert train(known_predictions(199), steps=1, noise_length=(0.4,)).noise == 'even 0.4'


def test_vectors_are_projected_on_sentences() -> None:
    found = train(known_predictions(300, with_texts=False), noise='none', anchors=1000)
    assert found.decoder.bridge.anchors.shape == (len(TEXTS), DIM)  # at most one per sentence
    assert accuracy(found) > 0.9


def test_answers_have_a_separate_modality_gap() -> None:
    texts = ['the red cup is gone', 'the blue box is shut'] * 20
    captions = known_predictions(40)
    other = unit(BagOfWords().encode(texts) - 1.5 * unit(np.ones((1, DIM), np.float32)))
    pairs = tuple(PredictionPair(v, t, True) for v, t in zip(other, texts, strict=True))
    both = replace(captions, vectors=(captions.vectors[0], other), pairs=captions.pairs + pairs)
    found = train(both)
    assert decode(found, other[:2], asked=True) == texts[:2]
    assert decode(found, other[:2], asked=False) != texts[:2]


def test_the_requested_fraction_of_predictions_is_below_the_threshold() -> None:
    few = known_predictions(300)
    found = train(few, abstain_share=0.3, steps=200)
    decoder = found.decoder
    placed = decoder.placed(few.vectors[0], asked=False)
    generator = TextGenerator(decoder.y_decoder, space().text_of)
    rows = generator.hypotheses(decoder.projected(placed), space().language)
    far = [row[0].cosine < decoder.config.bank_below for row in rows]
    assert 0.25 <= np.mean(far) <= 0.35
    assert train(few, abstain_share=0.0, steps=1).decoder.config.bank_below == -1.0


def test_a_few_pairs_do_not_outweigh_many_predictions() -> None:
    many = known_predictions(300, with_texts=False)
    odd = PredictionPair(-many.vectors[0][0], TEXTS[0], False)
    found = train(replace(many, pairs=(odd,)), steps=1)
    plain = train(many, steps=1)
    np.testing.assert_allclose(found.decoder.bridge.gap, plain.decoder.bridge.gap)


def test_the_modality_gap_is_estimated_from_answers_alone() -> None:
    vectors = predicted(TEXTS, seed=3)
    found = train(KnownPredictions((vectors[:0], vectors)), steps=1)
    gap = found.decoder.bridge.gap.numpy()
    assert np.linalg.norm(gap[1]) > 0.3
    np.testing.assert_allclose(gap[0], gap[1])


def test_without_texts_questions_have_the_gap_of_standing_prompts() -> None:
    """Answers such as "yes" are unlike the sentences, so their mean shows no gap."""
    captions, answers = predicted(TEXTS, seed=3), predicted(['red'] * 50, seed=4)
    both = train(KnownPredictions((captions, answers)), steps=1).decoder.bridge.gap.numpy()
    alone = train(KnownPredictions((captions, answers[:0])), steps=1).decoder.bridge.gap.numpy()
    np.testing.assert_allclose(both, alone)
