# SPDX-License-Identifier: Apache-2.0
"""The training pass (banded, with and without gradients) equals streaming."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_streaming import network, tower

PROMPTS = ['What is happening?', '', 'Is the red door open now?']
TUBELETS = 11  # of a window of 4: seven are evicted


def padded(tower: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token states (1, P, L, Dt) of the prompts and their mask."""
    states, mask = tower.states(PROMPTS, 128)
    return states[None].clone(), mask[None]


@pytest.mark.parametrize('gradients', [False, True])
def test_the_banded_pass_equals_streaming(tiny: Any, gradients: bool) -> None:
    vision, size = tiny.vision, tiny.facts.image_size
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (TUBELETS, 2, size, size, 3), dtype=np.uint8)
    state, streamed = vision.new_state(), []
    for t in range(TUBELETS):
        vision.step(state, list(frames[t]))
        streamed.append(vision.predict(state, PROMPTS))
    net = copy.deepcopy(network(vision)).requires_grad_(gradients)
    with torch.enable_grad():
        banded = net(torch.from_numpy(frames)[None], *padded(tower(vision)))
    assert banded.requires_grad == gradients
    np.testing.assert_allclose(banded[0].detach().numpy(), np.stack(streamed, axis=1), atol=1e-5)


def test_single_answers_equal_answers_to_all_prompts(tiny: Any) -> None:
    net, size = network(tiny.vision), tiny.facts.image_size
    frames = torch.randint(0, 256, (2, TUBELETS, 2, size, size, 3), dtype=torch.uint8)
    states, mask = padded(tower(tiny.vision))
    states, mask = states.expand(2, -1, -1, -1), mask.expand(2, -1, -1)
    with torch.no_grad():
        visual = net.x_encoder(frames)
        all_answers = net.predictor(visual, states, mask)
        clip, prompt = torch.tensor([1, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
        at = torch.tensor([9, 0, 4, 2])
        selected = net.predictor.answers(
            net.predictor.prefix(visual), states[clip, prompt], mask[clip, prompt], clip, at
        )
    torch.testing.assert_close(selected, all_answers[clip, prompt, at], atol=1e-5, rtol=0.0)


def test_padding_of_a_text_does_not_change_its_embedding(tiny: Any) -> None:
    text_tower = tower(tiny.language)
    for gradients in (False, True):
        encoder = copy.deepcopy(network(tiny.language).y_encoder).requires_grad_(gradients)
        with torch.enable_grad():
            states, mask = text_tower.states(['yes', 'the robot opens the red drawer'], 64)
            together = encoder(states.clone(), mask)[0]
            alone = encoder(*(x.clone() for x in text_tower.states(['yes'], 64)))[0]
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0.0)
