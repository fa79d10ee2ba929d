# SPDX-License-Identifier: Apache-2.0
"""SigLIP and SigLIP 2 (arXiv 2303.15343, 2502.14786) from `transformers` as one torch module.

Names of weights are those of the published checkpoints with the prefix `model.`. Checkpoints of
SigLIP 2 with a fixed resolution are loaded with `SiglipModel`, the class of the original SigLIP.

Shapes: B images or texts, S image side, L tokens, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SiglipConfig, SiglipModel

from vljepa_ros.model.dual_encoder.config import DualConfig


class DualEncoder(nn.Module):
    """SigLIP's image encoder and text encoder, with the learned scale and bias of cosines."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.config = config
        picture, text = config.picture, config.text
        self.model = SiglipModel(
            SiglipConfig(
                vision_config={
                    'image_size': picture.image_size,
                    'patch_size': picture.patch_size,
                    'hidden_size': picture.width,
                    'intermediate_size': picture.mlp_width,
                    'num_hidden_layers': picture.layers,
                    'num_attention_heads': picture.heads,
                },
                text_config={
                    'vocab_size': text.vocabulary,
                    'hidden_size': text.width,
                    'intermediate_size': text.mlp_width,
                    'num_hidden_layers': text.layers,
                    'num_attention_heads': text.heads,
                    'max_position_embeddings': text.max_tokens,
                    'projection_size': config.embedding_dim,
                },
                attn_implementation='sdpa',
            )
        )

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (B, S, S, 3) uint8 into unit vectors (B, D)."""
        _, height, width, _ = images.shape
        size = self.config.picture.image_size
        if (height, width) != (size, size):
            raise ValueError(
                f'images of {height}x{width} pixels do not match the model ({size}x{size})'
            )
        pixels = (images / 127.5 - 1.0).movedim(-1, 1)
        pixels = pixels.to(self.model.vision_model.embeddings.patch_embedding.weight.dtype)
        return _unit(self.model.vision_model(pixel_values=pixels).pooler_output)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Encode texts into unit vectors (B, D).

        As in SigLIP's training, all texts are padded to the same length with id 0, and padding is
        not masked in attention. The vector is the output at the last position, which is usually
        padding.

        Args:
            tokens: Token ids (B, L).
            mask: (B, L), true for real tokens.
        """
        missing = self.config.text.max_tokens - tokens.shape[1]
        padded = functional.pad(tokens.masked_fill(~mask, 0), (0, missing))
        return _unit(self.model.text_model(input_ids=padded).pooler_output)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.to(torch.float32), dim=-1)
