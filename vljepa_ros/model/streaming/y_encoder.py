# SPDX-License-Identifier: Apache-2.0
"""The Y-Encoder of a streaming model: a trained head that embeds the text tower's token states.

Its transformer layers separate opposites that the frozen text tower embeds close together (the
embeddings of "open" and "closed" have a cosine of 0.92). Attention pooling and a linear projection
follow (docs/design.md section 1).

Shapes: B texts, L tokens, Dt tower width, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.block import Block, attend


class YEncoder(nn.Module):
    """Text encoder that maps token states of the text tower to text embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.text_tower.width
        self.blocks = nn.ModuleList(
            Block(width, config.y_encoder.heads) for _ in range(config.y_encoder.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.head = nn.Linear(width, config.embedding_dim)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embed texts as unit vectors (B, D).

        Args:
            states: Token states (B, L, Dt) of the text tower.
            mask: (B, L), true for real tokens.
        """
        x = states
        for block in self.blocks:
            q, k, v = block.split(x)  # type: ignore[operator]
            attended = attend(q, k, v, mask[:, None, None])
            x = block.finish(x, attended)  # type: ignore[operator]
        x = self.norm(x)
        weight = self.score(x).squeeze(-1).masked_fill(~mask, -torch.inf).softmax(dim=-1)
        return functional.normalize(self.head((weight.unsqueeze(-1) * x).sum(dim=1)), dim=-1)
