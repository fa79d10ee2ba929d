# SPDX-License-Identifier: Apache-2.0
"""Every part on a tiny random configuration against plain `transformers`, in float32.

Tolerance: 2e-5 of unit vectors and of states of size 1, as both sides add in different orders.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from helpers import tiny_bidirectional as tiny
from torch.nn import functional

TOLERANCE = 2e-5


@pytest.fixture(scope='module')
def net() -> Any:
    return tiny.net()


def plain_vjepa(net: Any, **changed: Any) -> Any:
    """Return V-JEPA 2 of transformers with the net's weights and a random predictor."""
    from transformers import VJEPA2Config, VJEPA2Model

    reference = VJEPA2Model(
        VJEPA2Config(
            crop_size=32,
            patch_size=8,
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            mlp_ratio=2.0,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            **changed,
        )
    )
    missing, unexpected = reference.load_state_dict(net.x_encoder.model.state_dict(), strict=False)
    assert not unexpected and all(key.startswith('predictor.') for key in missing)
    return reference.eval()


def normalized(images: torch.Tensor) -> torch.Tensor:
    """Normalize like torchvision with the statistics of ImageNet, (B, F, 3, S, S)."""
    x = images.permute(0, 1, 4, 2, 3).double() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1).double()
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1).double()
    return ((x - mean) / deviation).float()


def test_the_x_encoder_equals_v_jepa_2(net: Any) -> None:
    images = tiny.video(6)
    with torch.no_grad():
        expected = plain_vjepa(net)(normalized(images), skip_predictor=True).last_hidden_state
    assert expected.shape == (1, 3 * 16, 48)
    torch.testing.assert_close(net.x_encoder(images), expected, atol=TOLERANCE, rtol=0)


def plain_llama(net: Any) -> Any:
    """Return a LlamaModel of four layers; the last two, table and norm are the Predictor's."""
    from transformers import LlamaConfig, LlamaModel, __version__

    theta = 500_000.0
    scaled = {
        'rope_type': 'llama3',
        'factor': 32.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
    }
    old = {'rope_theta': theta, 'rope_scaling': scaled}  # as of transformers 4
    new = {'rope_parameters': {'rope_theta': theta, **scaled}}
    reference = LlamaModel(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            rms_norm_eps=1e-5,
            max_position_embeddings=131072,
            attn_implementation='eager',
            **(old if __version__.startswith('4.') else new),
        )
    )
    state = {k: v for k, v in net.predictor.state_dict().items() if '_proj.' not in k[:9]}
    reference.load_state_dict(state)
    return reference.eval()


def expected_answer(net: Any, visual: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """Compute the mean state of a LlamaModel with a mask of zeros instead of the causal mask."""
    llama = plain_llama(net)
    x = torch.cat([net.predictor.vis_proj(visual), llama.embed_tokens(prompt)], dim=1)
    everything = torch.zeros(1, 1, x.shape[1], x.shape[1])
    with torch.no_grad():
        states = llama(inputs_embeds=x, attention_mask=everything).last_hidden_state
        return functional.normalize(net.predictor.out_proj(states.mean(dim=1)), dim=-1)


def test_the_predictor_equals_llama_without_its_causal_mask(net: Any) -> None:
    visual, prompt = torch.randn(1, 5, 48), torch.tensor([[1, 9, 30, 7]])
    mask = torch.ones_like(prompt, dtype=torch.bool)
    found = net.predictor(visual, prompt, mask)
    expected = expected_answer(net, visual, prompt)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(1))


@pytest.mark.parametrize('pad', [0, 7])
def test_padding_of_any_id_has_no_effect_and_the_end_of_text_token_has(net: Any, pad: int) -> None:
    """Llama's padding id is its end-of-text id, which a prompt may contain (here: 7)."""
    visual = torch.randn(2, 5, 48)
    prompt = torch.tensor([[1, 9, 7, pad, pad], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    found = net.predictor(visual, prompt, mask)
    for row, length in enumerate((3, 5)):
        expected = expected_answer(net, visual[row : row + 1], prompt[row : row + 1, :length])
        torch.testing.assert_close(found[row : row + 1], expected, atol=TOLERANCE, rtol=0)
    without = net.predictor(visual[:1], torch.tensor([[1, 9]]), torch.ones(1, 2).bool())
    assert (found[0] - without[0]).abs().max() > 100 * TOLERANCE


def test_predictor_attention_is_not_causal(net: Any) -> None:
    """With a causal mask, the first state would not depend on the last token."""
    states_by_token: dict[str, torch.Tensor] = {}
    layer = net.predictor.layers[-1]
    hook = layer.register_forward_hook(lambda _m, _i, out: states_by_token.update(states=out))
    visual = torch.randn(1, 5, 48)
    try:
        for last in (3, 4):
            prompt = torch.tensor([[1, last]])
            net.predictor(visual, prompt, torch.ones_like(prompt, dtype=torch.bool))
            states_by_token[str(last)] = states_by_token['states'][:, 0].clone()
    finally:
        hook.remove()
    assert (states_by_token['3'] - states_by_token['4']).abs().max() > 1e-3


def plain_gemma(net: Any) -> Any:
    from transformers import Gemma3TextConfig, Gemma3TextModel

    reference = Gemma3TextModel(
        Gemma3TextConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=7,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=8,
            use_bidirectional_attention=True,
            attn_implementation='eager',
        )
    )
    reference.load_state_dict(net.y_encoder.model.state_dict())
    return reference.eval()


def test_the_y_encoder_equals_embedding_gemma_with_mean_pooling(net: Any) -> None:
    """This also holds for texts longer than the sliding window, batched with a padded text."""
    gemma = plain_gemma(net)
    texts = [[1, *range(4, 24), 2], [1, 5, 2]]
    tokens = torch.zeros(2, 22, dtype=torch.long)
    mask = torch.zeros(2, 22, dtype=torch.bool)
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)], mask[row, : len(ids)] = torch.tensor(ids), True
    found = net.y_encoder(tokens, mask)
    for row, ids in enumerate(texts):
        with torch.no_grad():
            states = gemma(input_ids=torch.tensor([ids])).last_hidden_state[0]
            expected = functional.normalize(net.y_encoder.projector(states.mean(dim=0)), dim=-1)
        torch.testing.assert_close(found[row], expected, atol=TOLERANCE, rtol=0)


def test_the_weights_have_the_public_checkpoints_names() -> None:
    """The names are those of dion-jy/open-vljepa, with the sizes of this configuration."""
    llama_layer = ['input_layernorm', 'post_attention_layernorm']
    llama_layer += [f'self_attn.{name}_proj' for name in 'qkvo']
    llama_layer += [f'mlp.{name}_proj' for name in ('gate', 'up', 'down')]
    gemma_layer = [*llama_layer, 'self_attn.q_norm', 'self_attn.k_norm']
    gemma_layer += ['pre_feedforward_layernorm', 'post_feedforward_layernorm']
    expected = {'predictor.embed_tokens.weight', 'predictor.norm.weight'}
    expected |= {f'predictor.layers.{i}.{name}.weight' for i in range(2) for name in llama_layer}
    expected |= {'y_encoder.model.embed_tokens.weight', 'y_encoder.model.norm.weight'}
    expected |= {
        f'y_encoder.model.layers.{i}.{name}.weight' for i in range(7) for name in gemma_layer
    }
    for name in ('predictor.vis_proj', 'predictor.out_proj', 'y_encoder.projector'):
        expected |= {f'{name}.weight', f'{name}.bias'}
    names = set(tiny.net().state_dict())
    assert {name for name in names if not name.startswith('x_encoder.')} == expected
    rest = {name for name in names if name.startswith('x_encoder.')}
    parts = re.compile(r'x_encoder\.model\.encoder\.(embeddings|layer|layernorm)\b')
    assert rest and all(parts.match(name) for name in rest)


def test_the_full_size_has_the_papers_number_of_parameters() -> None:
    """304M, 490M and 300M (arXiv 2512.10942, section 3.1); Llama's table is 263M more."""
    from vljepa_ros.model.bidirectional.config import BidirectionalConfig
    from vljepa_ros.model.bidirectional.network import BidirectionalVLJEPA

    with torch.device('meta'):
        net = BidirectionalVLJEPA(BidirectionalConfig('full'))

    def millions(part: Any) -> float:
        return sum(p.numel() for p in part.parameters()) / 1e6

    assert millions(net.x_encoder) == pytest.approx(304, abs=1)
    table = 128_256 * 2048 / 1e6
    assert millions(net.predictor) - table == pytest.approx(490, abs=4)
    assert millions(net.y_encoder) == pytest.approx(304, abs=2)
