# SPDX-License-Identifier: Apache-2.0
"""A streaming VL-JEPA (arXiv 2512.10942) as one torch module.

The vision side consists of X-Encoder, Predictor and, optionally, a region finder. The text side
consists of Y-Encoder and Y-Decoder. The frozen text tower, which both sides use, is not part of
the module.
"""

from __future__ import annotations

from torch import Tensor, nn

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.language.y_decoder import YDecoder
from vljepa_ros.model.streaming.predictor import Predictor
from vljepa_ros.model.streaming.region_finder import RegionFinder
from vljepa_ros.model.streaming.x_encoder import XEncoder
from vljepa_ros.model.streaming.y_encoder import YEncoder

FINDER = 'region_finder'  # optional submodule of the vision side, trained separately
VISION = ('x_encoder', 'predictor')
LANGUAGE = ('y_encoder', 'y_decoder')


class VLJEPA(nn.Module):
    """Streaming VL-JEPA with all of its submodules, or only the submodules in `parts`."""

    def __init__(
        self, config: ModelConfig, parts: tuple[str, ...] = (FINDER, *VISION, *LANGUAGE)
    ) -> None:
        super().__init__()
        self.config = config
        self.region_finder: RegionFinder | None = None
        if FINDER in parts and config.region_finder.image_size:
            self.region_finder = RegionFinder(config.region_finder, config.x_encoder.image_size)
        if 'x_encoder' in parts:
            self.x_encoder = XEncoder(config.x_encoder, config.time)
        if 'predictor' in parts:
            self.predictor = Predictor(config)
        if 'y_encoder' in parts:
            self.y_encoder = YEncoder(config)
        if 'y_decoder' in parts:
            self.y_decoder = YDecoder(config.y_decoder, config.embedding_dim)

    def forward(self, images: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answer embeddings of P prompts at every tubelet of B clips, for training.

        Args:
            images: T tubelets of F frames of S x S pixels per clip, (B, T, F, S, S, 3) uint8 RGB.
            prompt: Token states of the text tower, of width Dt, for P prompts of L tokens each
                (B, P, L, Dt).
            prompt_mask: (B, P, L), true for real tokens.

        Returns:
            Unit vectors (B, P, T, embedding_dim).
        """
        return self.predictor(self.x_encoder(images), prompt, prompt_mask)
