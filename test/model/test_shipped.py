# SPDX-License-Identifier: Apache-2.0
"""The shipped model: size, model card, and consistency of its parts."""

from __future__ import annotations

import numpy as np

from vljepa_ros.core.protocols import Model
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.meanings import is_right, meanings, sentences
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.novel_combinations import decode_held_out
from vljepa_ros.model import registry


def test_the_shipped_model_is_small_and_has_a_model_card() -> None:
    folder = registry.find('small')
    assert (folder / registry.WEIGHTS).stat().st_size < 30_000_000
    card = (folder / 'MODEL_CARD.md').read_text()
    assert 'vljepa train' in card and 'seed' in card.lower()
    config = registry.read_config(folder)
    assert config.x_encoder.layers + config.predictor.layers >= 4
    assert len(config.text_tower.sha256) == 64


def test_paraphrases_are_nearer_than_opposites(shipped: Model) -> None:
    assert shipped.language is not None
    for one, other in (
        ('drawer-open', 'drawer-close'),
        ('window-open', 'window-close'),
        ('faucet-open', 'faucet-close'),
    ):
        a, b = (
            shipped.language.encode(sentences(f'act:{task}:red', 'train')) for task in (one, other)
        )
        assert (a @ a.T).mean() > (a @ b.T).mean()


def test_the_decoder_reconstructs_an_embedded_text(shipped: Model) -> None:
    assert shipped.language is not None
    rng = np.random.default_rng(0)
    concepts = meanings(TRAIN_TASKS, held_out_colors=False)
    chosen = [str(meaning) for meaning in rng.choice(concepts, 60, replace=False)]
    texts = [sentences(meaning, 'train')[0] for meaning in chosen]
    decoded = shipped.language.decode(shipped.language.encode(texts))
    right = [is_right(m, d.text) for m, d in zip(chosen, decoded, strict=True)]
    assert np.mean(right) > 0.8


def test_darkness_is_recognized(shipped: Model) -> None:
    assert shipped.vision is not None and shipped.language is not None
    size = shipped.facts.image_size
    state = shipped.vision.new_state()
    for _ in range(6):
        shipped.vision.step(state, [np.zeros((size, size, 3), np.uint8)] * 2)
    vector = shipped.vision.predict(state, ['What is happening?'])[0]
    best = shipped.language.rank(
        vector, ['it is dark', 'the robot opens the red drawer', 'the arm is at rest']
    )[0]
    assert best.text == 'it is dark'


def test_the_decoder_beats_retrieval_on_untrained_combinations(shipped: Model) -> None:
    assert shipped.language is not None
    found = decode_held_out(shipped.language, CONCEPTS)
    assert found.sentences > 200
    assert found.decoder_cider > found.nearest_cider
    assert found.decoder_right > found.nearest_right
