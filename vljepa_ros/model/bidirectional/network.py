# SPDX-License-Identifier: Apache-2.0
"""A bidirectional VL-JEPA as one torch module, with the weight names of a public checkpoint.

The checkpoint `cun-bjy/open-vljepa` contains `predictor.*` and `y_encoder.*`. It does not contain
the frozen X-Encoder (`x_encoder.model.*`), whose weights are those of the published V-JEPA 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.predictor import Predictor
from vljepa_ros.model.bidirectional.x_encoder import XEncoder
from vljepa_ros.model.bidirectional.y_encoder import YEncoder

VISION = ('x_encoder', 'predictor')
LANGUAGE = ('y_encoder',)


class BidirectionalVLJEPA(nn.Module):
    """X-Encoder, Predictor and Y-Encoder as submodules, or only the submodules in `parts`."""

    def __init__(
        self, config: BidirectionalConfig, parts: tuple[str, ...] = VISION + LANGUAGE
    ) -> None:
        super().__init__()
        self.config = config
        if 'x_encoder' in parts:
            self.x_encoder = XEncoder(config.x_encoder)
        if 'predictor' in parts:
            self.predictor = Predictor(
                config.predictor, config.x_encoder.width, config.embedding_dim
            )
        if 'y_encoder' in parts:
            self.y_encoder = YEncoder(config.y_encoder, config.embedding_dim)

    def forward(self, images: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answer embedding of one prompt per window, as in training.

        Args:
            images: B windows of F frames of S x S pixels, (B, F, S, S, 3) uint8 RGB.
            prompt: Token ids of one prompt per window (B, L).
            prompt_mask: (B, L), true for real tokens.

        Returns:
            Unit vectors (B, embedding_dim).
        """
        return self.predictor(self.x_encoder(images), prompt, prompt_mask)
