# SPDX-License-Identifier: Apache-2.0
"""Selection of trainable parameters, and exact merging of adapters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny_streaming import network
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.model import registry
from vljepa_ros.model.streaming.network import LANGUAGE, VISION, VLJEPA
from vljepa_ros.train.adapters import Lora, merged
from vljepa_ros.train.fine_tuning.config import FineTuningConfig, Recording
from vljepa_ros.train.fine_tuning.trainable_parameters import select_parameters

HEADS = {f'predictor.{layer}.{name}' for layer in ('norm', 'head') for name in ('weight', 'bias')}


def config(tune: str) -> FineTuningConfig:
    return FineTuningConfig('out', (Recording('x'),), tune=tune, lora=Lora(rank=4, alpha=8.0))


@pytest.fixture
def net(start: Path) -> VLJEPA:
    loaded = VLJEPA(registry.read_config(start))
    registry.load_weights(loaded, start / registry.WEIGHTS, VISION + LANGUAGE)
    return loaded.eval()


def answers(net: VLJEPA) -> Tensor:
    """Return answers to random prompts about a random clip."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 6, 2, 32, 32, 3), generator=generator, dtype=torch.uint8)
    prompts = torch.randn(2, 3, 5, 384, generator=generator)
    with torch.no_grad():
        found: Tensor = net(frames, prompts, torch.ones(2, 3, 5, dtype=torch.bool))
    return found


def trained(net: VLJEPA) -> set[str]:
    return {name for name, p in net.named_parameters() if p.requires_grad}


def test_heads_are_the_predictors_last_layers(net: VLJEPA) -> None:
    parameters = select_parameters(net, config('heads'))
    assert trained(net) == HEADS and len(parameters) == len(HEADS)


def test_all_selects_all_of_the_vision_side_and_none_of_the_text_side(net: VLJEPA) -> None:
    select_parameters(net, config('all'))
    vision = {n for n, _ in net.named_parameters() if n.startswith(('x_encoder', 'predictor'))}
    assert trained(net) == vision


def test_lora_adds_two_low_rank_matrices_to_each_linear_layer(net: VLJEPA) -> None:
    pytest.importorskip('peft')
    before = {name for name, _ in net.named_parameters()}
    select_parameters(net, config('lora'))
    layers = {n.rpartition('.lora_')[0] for n in trained(net) if '.lora_' in n}
    expected = {
        f'{part}.blocks.{block}.{layer}'
        for part in VISION
        for block in (0, 1)
        for layer in ('qkv', 'project', 'mlp.0', 'mlp.2')
    }
    assert layers == expected
    assert trained(net) - HEADS == {n for n in trained(net) if '.lora_' in n}
    shapes = {
        tuple(p.shape) for n, p in net.named_parameters() if 'x_encoder.blocks.0.qkv.lora' in n
    }
    assert shapes == {(4, 32), (96, 4)}
    assert before >= HEADS


def test_merged_adapters_give_the_same_answers_from_plain_weights(
    net: VLJEPA, tmp_path: Path
) -> None:
    """Merging is exact to 1e-5 in float32; in float16, cosines are at least 0.99999."""
    pytest.importorskip('peft')
    names, start = set(net.state_dict()), answers(net)
    select_parameters(net, config('lora'))
    assert torch.equal(answers(net), start)  # B is zero before training
    torch.manual_seed(2)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if 'lora_B' in name:
                p.normal_(std=0.05)
    tuned = answers(net)
    assert (tuned * start).sum(dim=-1).mean() < 0.99  # the adapters change the answers
    plain = merged(net)
    assert set(plain.state_dict()) == names
    assert torch.allclose(answers(plain), tuned, atol=1e-5)
    registry.save(plain, tmp_path / 'x')
    model = registry.load(str(tmp_path / 'x'), device='cpu')
    assert model.vision is not None
    cosine = (answers(network(model.vision)) * tuned).sum(dim=-1)  # type: ignore[attr-defined]
    assert cosine.min() > 0.99999


def test_lora_equals_its_formula(net: VLJEPA) -> None:
    """The formula of the paper is W + alpha / rank * B A."""
    pytest.importorskip('peft')
    name = 'predictor.blocks.1.mlp.0.weight'
    before = net.state_dict()[name].clone()
    select_parameters(net, config('lora'))
    layer = net.predictor.blocks[1].mlp[0]  # type: ignore[index]
    with torch.no_grad():
        layer.lora_B['default'].weight.normal_()
    a, b = layer.lora_A['default'].weight, layer.lora_B['default'].weight
    expected = before + 8.0 / 4 * b @ a
    assert torch.allclose(merged(net).state_dict()[name], expected, atol=1e-5)


def test_a_missing_peft_error_names_the_install_command(
    net: VLJEPA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InputError, match=r'peft.*pip install .*\[tune\]'):
        select_parameters(net, config('lora'))
    assert select_parameters(net, config('heads'))
