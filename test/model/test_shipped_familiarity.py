# SPDX-License-Identifier: Apache-2.0
"""The shipped model separates its scenes from unfamiliar ones, and English from other texts."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.core.images import fit
from vljepa_ros.core.protocols import Model
from vljepa_ros.data.unfamiliar import recorded, synthetic
from vljepa_ros.data.unfamiliar.texts import own_texts
from vljepa_ros.sources import Damaged, open_source


def scores(model: Model, frames: np.ndarray) -> list[float]:
    vision, size = model.vision, model.facts.image_size
    assert vision is not None
    state, found = vision.new_state(), []
    for start in range(0, len(frames) - 1, 2):
        vision.step(state, [fit(frame, size) for frame in frames[start : start + 2]])
        found.append(vision.unfamiliar(state))
    return found


@pytest.mark.parametrize('kind', ['white noise', 'color bars', 'rings'])
def test_noise_and_test_patterns_are_unfamiliar(shipped: Model, kind: str) -> None:
    found = [scores(shipped, synthetic.make(kind, seed, 12, 96))[-1] for seed in range(6)]
    assert np.mean(np.array(found) >= 0.5) >= 0.8


def test_photographs_are_unfamiliar(shipped: Model) -> None:
    kind = 'scikit-image photographs'
    found = [scores(shipped, recorded.make(kind, 100 + seed, 12, 96))[-1] for seed in range(8)]
    assert np.mean(np.array(found) >= 0.5) >= 0.8


def test_the_sample_bag_is_familiar(shipped: Model) -> None:
    frames = [i.image for i in open_source('samples/bench').items() if not isinstance(i, Damaged)]
    found = scores(shipped, np.stack(frames[:200]))
    assert np.mean(np.array(found) >= 0.5) <= 0.03


def test_held_out_paraphrases_are_readable(shipped: Model) -> None:
    assert shipped.language is not None
    texts = own_texts('heldout')[::20]
    assert np.mean([shipped.language.unreadable(text) >= 0.5 for text in texts]) <= 0.03


@pytest.mark.parametrize(
    'text',
    [
        'yes', 'no', 'red', 'Is the forklift near the pallet?', 'Has the dog eaten its food?',
        'a person walks through the door', '12',
    ],
)  # fmt: skip
def test_plain_english_is_readable(shipped: Model, text: str) -> None:
    assert shipped.language is not None and shipped.language.unreadable(text) < 0.5


@pytest.mark.parametrize(
    'text',
    [
        '机器人现在在做什么', 'Что сейчас происходит?', 'ماذا يحدث الآن؟',
        'Was passiert gerade auf dem Tisch?',
        '¿Qué está pasando encima de la mesa?', "Qu'est-ce qui se passe sur la table ?",
        'sdfkjh wqpoeiru zmxncb', '🤖❓',
    ],
)  # fmt: skip
def test_other_languages_nonsense_and_emoji_are_unreadable(shipped: Model, text: str) -> None:
    assert shipped.language is not None and shipped.language.unreadable(text) >= 0.5
