# SPDX-License-Identifier: Apache-2.0
"""A dual encoder of a small architecture with random weights, and its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_bidirectional import SENTENCES, plain, save_tokenizer

from vljepa_ros.model.checkpoint_config import BankConfig, TokenizerConfig
from vljepa_ros.model.dual_encoder.config import (
    DualConfig,
    ImageConfig,
    TextConfig,
)
from vljepa_ros.model.stills import StillsConfig

DIM = 32


def config(**changed: Any) -> DualConfig:
    """Return a configuration with images of 32x32."""
    values: dict[str, Any] = {
        'name': 'tiny_dual',
        'time': StillsConfig(rate_hz=4.0),
        'picture': ImageConfig(32, 8, DIM, layers=2, heads=2, mlp_width=48),
        'text': TextConfig(
            width=24,
            layers=2,
            heads=2,
            mlp_width=48,
            vocabulary=64,
            max_tokens=12,
            tokenizer=TokenizerConfig('text_tokenizer.json', '', '<end>', lower_case=True),
        ),
        'bank': BankConfig(abstain_below=-1.0),
    }
    return DualConfig(**values | changed)


def net(of: DualConfig | None = None) -> Any:
    """Return the net in evaluation mode, with the same weights every time."""
    from vljepa_ros.model.dual_encoder.network import DualEncoder

    torch.manual_seed(0)
    made = DualEncoder(of or config()).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    made.model.logit_scale.fill_(3.0)
    made.model.logit_bias.fill_(-2.0)
    return made


def save(folder: Path, of: DualConfig | None = None) -> Path:
    """Save the folder."""
    import yaml
    from safetensors.torch import save_file

    chosen = of or config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model.yaml').write_text(yaml.safe_dump(plain(dataclasses.asdict(chosen))))
    (folder / 'sentences.txt').write_text('\n'.join(SENTENCES))
    save_tokenizer(folder / 'text_tokenizer.json')
    save_file(net(chosen).state_dict(), folder / 'weights.safetensors')
    return folder
