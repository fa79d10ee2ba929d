# SPDX-License-Identifier: Apache-2.0
"""Both ways to stream a bidirectional model, against passes over whole windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_bidirectional as tiny
from model.bidirectional.test_parity import normalized, plain_vjepa
from torch.nn import functional

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Model
from vljepa_ros.model import registry
from vljepa_ros.model.bidirectional.x_encoder import XEncoder

PROMPTS = ['what is happening', '', 'the drawer is open']
TOLERANCE = 2e-5


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp('models') / 'tiny_bidirectional')


@pytest.fixture(scope='module')
def model(folder: Path) -> Model:
    return registry.load(str(folder), device='cpu')


def hops(video: torch.Tensor) -> list[list[np.ndarray]]:
    frames = list(video[0].numpy())
    return [frames[i : i + 2] for i in range(0, len(frames), 2)]


def test_model_facts_follow_the_window(model: Model) -> None:
    facts = model.facts
    assert (facts.tubelet_frames, facts.window_tubelets, facts.receptive_tubelets) == (2, 4, 4)
    assert facts.hop_ns == 500_000_000 and facts.window_ns == 2_000_000_000
    name, weights, tokenizers = facts.model_id.split('-')
    assert name == 'tiny_bidirectional' and len(weights) == len(tokenizers) == 8


def test_each_hop_equals_a_pass_over_the_last_window(model: Model) -> None:
    """The test covers a cold start, with a partial window, and streams longer than the window."""
    video, net, vision = tiny.video(14), tiny.net(), model.vision
    assert vision is not None
    state = vision.new_state()
    for hop, frames in enumerate(hops(video)):
        vision.step(state, frames)
        found = vision.predict(state, PROMPTS)
        end = 2 * hop + 2
        window = video[:, max(0, end - 8) : end]
        with torch.no_grad():
            visual = plain_vjepa(net)(normalized(window), skip_predictor=True).last_hidden_state
        for row, prompt in enumerate(PROMPTS):
            words = ['<begin>', *prompt.split()]
            ids = torch.tensor([[[*tiny.MARKS, *tiny.WORDS].index(word) for word in words]])
            expected = net.predictor(visual, ids, torch.ones_like(ids, dtype=torch.bool))
            np.testing.assert_allclose(found[row], expected[0].numpy(), atol=TOLERANCE)


def test_states_are_independent_and_the_encoder_runs_once_per_hop(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = model.vision
    assert vision is not None
    first, second = vision.new_state(), vision.new_state()
    vision.step(first, hops(tiny.video(2, seed=1))[0])
    vision.step(second, hops(tiny.video(2, seed=2))[0])
    before = vision.predict(first, PROMPTS)
    assert np.abs(before - vision.predict(second, PROMPTS)).max() > 1e-3
    monkeypatch.setattr(XEncoder, 'forward', None)
    np.testing.assert_array_equal(vision.predict(first, PROMPTS), before)


def test_prompts_in_several_batches_give_the_same_answers(model: Model) -> None:
    vision = model.vision
    assert vision is not None
    state = vision.new_state()
    vision.step(state, hops(tiny.video(2))[0])
    prompts = [' '.join(tiny.WORDS[: n % 7]) for n in range(11)]
    together = vision.predict(state, prompts)
    alone = np.concatenate([vision.predict(state, [prompt]) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
    assert vision.predict(state, []).shape == (0, tiny.DIM)


def test_invalid_input_to_the_vision_side_is_rejected(model: Model) -> None:
    vision = model.vision
    assert vision is not None
    state = vision.new_state()
    with pytest.raises(InputError, match='frame'):
        vision.predict(state, ['a'])
    with pytest.raises(InputError, match='has shape'):
        vision.step(state, [np.zeros((8, 8, 3), np.uint8)] * 2)
    with pytest.raises(InputError, match=r'3 frames.* 2'):
        vision.step(state, [np.zeros((32, 32, 3), np.uint8)] * 3)
    with pytest.raises(InputError, match=r'18 tokens.* 16'):
        vision.check_prompts(['a ' * 17])


def causal(layers: int) -> Any:
    """Return a configuration with a block-causal X-Encoder of `layers` layers."""
    encoder = tiny.XEncoderConfig(
        image_size=32, patch_size=8, width=48, layers=layers, heads=2, mlp_ratio=2.0,
        block_causal=True,
    )  # fmt: skip
    return tiny.config(x_encoder=encoder)


def causal_tokens(config: Any, video: torch.Tensor) -> list[torch.Tensor]:
    """Return the newest tubelet's tokens after each hop."""
    from vljepa_ros.model.bidirectional.image_encoder import CausalEncoder

    encoder = CausalEncoder(tiny.net(config).x_encoder, config)
    state, found = encoder.new_state(), []
    for hop in video.split(2, dim=1):
        encoder.push(state, hop)
        found.append(encoder.tokens(state)[:, -16:])
    assert encoder.tokens(state).shape == (1, 4 * 16, 48)
    return found


def test_block_causal_steps_equal_v_jepa_2_with_a_block_causal_mask() -> None:
    """Within the first window, steps equal a pass of transformers with our mask."""
    from transformers import AttentionInterface

    config, video = causal(layers=2), tiny.video(8)

    def banded(module: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Any:
        tubelet = torch.arange(q.shape[2]) // 16
        mask = tubelet[:, None] >= tubelet[None]
        return functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2), None

    AttentionInterface.register('banded', banded)
    plain = plain_vjepa(tiny.net(config), attn_implementation='banded')
    with torch.no_grad():
        expected = plain(normalized(video), skip_predictor=True).last_hidden_state
    found = torch.cat(causal_tokens(config, video), dim=1)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_the_cache_is_evicted_with_the_window() -> None:
    """With one layer, the newest tubelet attends to the same tokens as in window mode."""
    config, video = causal(layers=1), tiny.video(20)
    net = tiny.net(config)
    for hop, found in enumerate(causal_tokens(config, video)):
        end = 2 * hop + 2
        whole = net.x_encoder(video[:, max(0, end - 8) : end])
        torch.testing.assert_close(found, whole[:, -16:], atol=TOLERANCE, rtol=0)


def test_block_causal_mode_has_a_separate_model_id(folder: Path, tmp_path: Path) -> None:
    ids = []
    for name, config in (('whole', tiny.config()), ('causal', causal(layers=2))):
        model = registry.load(str(tiny.save(tmp_path / name, config)), device='cpu')
        ids.append(model.facts.model_id)
    assert ids[1] == f'{ids[0]}-causal'
    # Two layers and the Predictor extend 3 tubelets back each: 9 before the newest.
    assert model.facts.receptive_tubelets == 10
