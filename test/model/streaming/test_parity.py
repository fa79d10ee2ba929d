# SPDX-License-Identifier: Apache-2.0
"""Streaming is exact: the shipped weights, hop by hop, against a dense masked pass in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.reference_model import Reference
from helpers.tiny_streaming import network, tower
from numpy.typing import NDArray
from safetensors import safe_open

from vljepa_ros.core.protocols import Model
from vljepa_ros.model import registry

PROMPTS = ['What is happening?', '', 'Is the robot opening the red drawer right now, or not?']
TOLERANCE = 1e-4


@pytest.fixture(scope='module')
def reference() -> Reference:
    """Return the reference with the shipped weights."""
    folder = registry.find('small')
    with safe_open(folder / registry.WEIGHTS, framework='np') as stored:
        weights = {key: stored.get_tensor(key).astype(np.float64) for key in stored.keys()}  # noqa: SIM118
    return Reference(weights, yaml.safe_load((folder / registry.CONFIG).read_text()))


def video(tubelets: int, size: int, seed: int) -> NDArray[np.uint8]:
    """Return noise over slow waves: (T, 2, S, S, 3)."""
    rng = np.random.default_rng(seed)
    t = np.arange(2 * tubelets)[:, None, None, None]
    y, x = np.mgrid[:size, :size]
    wave = 110 + 90 * np.sin(0.07 * t + 0.1 * x[None, ..., None] + 0.05 * y[None, ..., None])
    frames = wave + rng.normal(0, 20, (2 * tubelets, size, size, 3))
    return np.clip(frames, 0, 255).astype(np.uint8).reshape(tubelets, 2, size, size, 3)


def prompt_states(model: Model) -> list[NDArray[np.float64]]:
    """Return the text tower's token states of the prompts, one array each."""
    vision: Any = model.vision
    return [tower(vision).states([p], 128)[0][0].double().numpy() for p in PROMPTS]


def test_every_hop_equals_the_masked_pass(shipped: Model, reference: Reference) -> None:
    vision, facts = shipped.vision, shipped.facts
    assert vision is not None
    tubelets = 5 * facts.window_tubelets + 5
    frames = video(tubelets, facts.image_size, seed=3)
    expected = reference.predict(frames, prompt_states(shipped))
    state, evicted = vision.new_state(), 0
    for t in range(tubelets):
        before = state.x_encoder[0].keys.shape[2] if t else 0
        vision.step(state, list(frames[t]))
        evicted += before + 1 - state.x_encoder[0].keys.shape[2]
        np.testing.assert_allclose(vision.predict(state, PROMPTS), expected[:, t], atol=TOLERANCE)
    assert evicted == tubelets - facts.window_tubelets
    layers = len(state.x_encoder) + len(state.predictor)
    assert layers >= 4
    assert facts.receptive_tubelets == layers * (facts.window_tubelets - 1) + 1


def test_only_frames_in_the_receptive_field_change_the_output(
    shipped: Model,
) -> None:
    vision, facts = shipped.vision, shipped.facts
    assert vision is not None
    field = facts.receptive_tubelets
    frames = video(field + 6, facts.image_size, seed=4)
    other = frames.copy()
    other[:6] = 255 - other[:6]

    def final_answers(clip: NDArray[np.uint8]) -> NDArray[np.float32]:
        state = vision.new_state()
        for tubelet in clip:
            vision.step(state, list(tubelet))
        return vision.predict(state, PROMPTS)

    np.testing.assert_array_equal(final_answers(frames), final_answers(other))
    other[-facts.window_tubelets] = 0
    assert np.abs(final_answers(frames) - final_answers(other)).max() > 1e-3


@pytest.mark.long
@pytest.mark.timeout(3600)  # ten thousand steps on one thread of a busy machine
def test_hop_ten_thousand_equals_the_masked_pass(shipped: Model, reference: Reference) -> None:
    vision, facts = shipped.vision, shipped.facts
    assert vision is not None
    frames = video(60, facts.image_size, seed=5)
    state = vision.new_state()
    for hop in range(10_000):
        vision.step(state, list(frames[hop % len(frames)]))
    state.steps += 10**9  # and no count of hops enters
    tail = np.stack(
        [frames[h % len(frames)] for h in range(10_000 - facts.receptive_tubelets, 10_000)]
    )
    expected = reference.predict(tail, prompt_states(shipped))[:, -1]
    np.testing.assert_allclose(vision.predict(state, PROMPTS), expected, atol=TOLERANCE)


def test_training_pass_equals_the_masked_pass(shipped: Model, reference: Reference) -> None:
    vision: Any = shipped.vision
    frames = video(12, shipped.facts.image_size, seed=6)
    states, mask = tower(vision).states(PROMPTS, 128)
    with torch.inference_mode():
        found = network(vision)(torch.from_numpy(frames)[None], states[None], mask[None])[0]
    expected = reference.predict(frames, prompt_states(shipped))
    np.testing.assert_allclose(found.numpy(), expected, atol=TOLERANCE)
