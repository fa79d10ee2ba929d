# SPDX-License-Identifier: Apache-2.0
"""Model folders shipped without weights: their sources provide all required tensors.

Tests use full sizes on the meta device. Published files are as `transformers` saves them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vljepa_ros.model import registry
from vljepa_ros.model.hub.convert import renamed
from vljepa_ros.model.weights import check_weights

State = dict[str, Tensor]


def saved(module: Any, prefix: str = '') -> State:
    return {f'{prefix}{key}': value for key, value in module.state_dict().items()}


def llama() -> Any:
    """Llama-3.2-1B: 16 layers."""
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
        )
    )


def gemma() -> Any:
    """EmbeddingGemma-300M."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    return Gemma3TextModel(
        Gemma3TextConfig(
            vocab_size=262144,
            hidden_size=768,
            intermediate_size=1152,
            num_hidden_layers=24,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=256,
        )
    )


def public_checkpoint() -> State:
    """Return best.pt of dion-jy/open-vljepa: the last 8 layers, and linear layers to 1536."""
    from torch.nn import Linear

    predictor = llama()
    predictor.layers = predictor.layers[-8:]
    state = saved(predictor, 'predictor.') | saved(gemma(), 'y_encoder.model.')
    state |= saved(Linear(1024, 2048), 'predictor.vis_proj.')
    state |= saved(Linear(2048, 1536), 'predictor.out_proj.')
    return state | saved(Linear(768, 1536), 'y_encoder.projector.')


def published(repository: str) -> State:
    """Return the weights of a repository."""
    from transformers import SiglipConfig, SiglipModel, VJEPA2Config, VJEPA2Model

    if repository == 'google/siglip2-base-patch16-256':
        config = {'vision_config': {'image_size': 256}, 'text_config': {'vocab_size': 256_000}}
        return saved(SiglipModel(SiglipConfig(**config)))
    return {
        'cun-bjy/open-vljepa': public_checkpoint,
        'facebook/vjepa2-vitl-fpc64-256': lambda: saved(VJEPA2Model(VJEPA2Config())),
        'meta-llama/Llama-3.2-1B': lambda: saved(llama(), 'model.'),
        'google/embeddinggemma-300m': lambda: saved(gemma()),
    }[repository]()


@pytest.mark.parametrize('name', ['open_vljepa', 'vljepa_paper', 'vljepa_open', 'siglip2'])
def test_published_weights_fill_the_model_without_surplus_keys(name: str) -> None:
    config: Any = registry.read_config(registry.find(name))
    assert config.name == name and config.licences
    with torch.device('meta'):
        net, state = registry.make(config), {}
        expected = net.state_dict()
        for source in config.sources:
            if not source.save_as:
                state |= renamed(published(source.repository), source)
    drawn = {key: expected[key] for key in expected if key.startswith(config.drawn or ('none',))}
    assert not set(drawn) & set(state)
    check_weights(net, state | drawn, name)


@pytest.mark.parametrize('name', ['open_vljepa', 'vljepa_paper', 'vljepa_open', 'siglip2'])
def test_all_files_of_a_model_are_shipped_or_in_its_sources(name: str) -> None:
    folder = registry.find(name)
    config: Any = registry.read_config(folder)
    parts = [getattr(config, part, None) for part in ('predictor', 'y_encoder', 'text')]
    files = {part.tokenizer.file for part in parts if part is not None}
    assert {source.save_as for source in config.sources if source.save_as} == files
    assert (folder / config.bank.file).is_file() and (folder / 'MODEL_CARD.md').is_file()
    assert not list(folder.glob('*.safetensors'))
