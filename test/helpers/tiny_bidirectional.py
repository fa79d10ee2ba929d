# SPDX-License-Identifier: Apache-2.0
"""A bidirectional model of a small architecture with random weights, and its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vljepa_ros.model.bidirectional.config import (
    BidirectionalConfig,
    PredictorConfig,
    WindowConfig,
    XEncoderConfig,
    YEncoderConfig,
)
from vljepa_ros.model.checkpoint_config import BankConfig, TokenizerConfig

WORDS = ['a', 'b', 'c', 'the', 'drawer', 'is', 'open', 'shut', 'cup', 'red', 'blue', 'what']
WORDS += ['happening', 'who', 'knows', 'robot', 'moves']
MARKS = ['<pad>', '<begin>', '<end>', '<unk>']
SENTENCES = ('the drawer is open', 'the drawer is shut', 'the robot moves')
DIM = 24


def config(**changed: Any) -> BidirectionalConfig:
    """Return a configuration with four tubelets of 2 images of 32x32, 16 tokens each."""
    values: dict[str, Any] = {
        'name': 'tiny_bidirectional',
        'embedding_dim': DIM,
        'time': WindowConfig(rate_hz=4.0, hop_frames=2, window_frames=8),
        'x_encoder': XEncoderConfig(
            image_size=32, patch_size=8, width=48, layers=2, heads=2, mlp_ratio=2.0
        ),
        'predictor': PredictorConfig(
            width=32,
            layers=2,
            heads=4,
            key_value_heads=2,
            head_width=8,
            mlp_width=64,
            vocabulary=64,
            max_prompt_tokens=16,
            tokenizer=TokenizerConfig('predictor_tokenizer.json', '<begin>'),
        ),
        'y_encoder': YEncoderConfig(
            width=32,
            layers=7,  # of which the sixth attends without a window
            heads=2,
            key_value_heads=1,
            head_width=16,
            mlp_width=64,
            vocabulary=64,
            sliding_window=8,
            max_tokens=24,
            tokenizer=TokenizerConfig('y_encoder_tokenizer.json', '<begin>', '<end>'),
        ),
        'bank': BankConfig(abstain_below=-1.0),
    }
    return BidirectionalConfig(**values | changed)


def net(of: BidirectionalConfig | None = None, seed: int = 0) -> Any:
    """Return a net in evaluation mode with weights that differ from their initial values."""
    from vljepa_ros.model.bidirectional.network import BidirectionalVLJEPA

    torch.manual_seed(seed)
    made = BidirectionalVLJEPA(of or config()).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def save_tokenizer(path: Path, words: Sequence[str] = WORDS) -> None:
    """Save a tokenizer with a small vocabulary that adds no special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: i for i, word in enumerate([*MARKS, *words])}
    made = Tokenizer(WordLevel(vocabulary, unk_token='<unk>'))
    made.pre_tokenizer = Whitespace()
    made.save(str(path))


def save(folder: Path, of: BidirectionalConfig | None = None) -> Path:
    """Save the folder, with the same weights every time."""
    import dataclasses

    import yaml
    from safetensors.torch import save_file

    chosen = of or config()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model.yaml').write_text(yaml.safe_dump(plain(dataclasses.asdict(chosen))))
    (folder / 'sentences.txt').write_text('# sentence bank\n' + '\n'.join(SENTENCES) + '\n')
    for name in ('predictor_tokenizer.json', 'y_encoder_tokenizer.json'):
        save_tokenizer(folder / name)
    save_file(net(chosen).state_dict(), folder / 'weights.safetensors')
    return folder


def plain(value: Any) -> Any:
    """Convert tuples to lists, recursively."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def video(frames: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Return noise (1, F, S, S, 3) uint8."""
    made = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, frames, size, size, 3), generator=made, dtype=torch.uint8)
