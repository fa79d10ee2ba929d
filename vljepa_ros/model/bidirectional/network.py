# SPDX-License-Identifier: Apache-2.0
"""A bidirectional VL-JEPA as one torch module, with the weight names of the public checkpoint.

`cun-bjy/open-vljepa` contains `predictor.*` and `y_encoder.*`. Its frozen X-Encoder is V-JEPA 2 as
published (`x_encoder.model.*`) and is not part of that checkpoint.
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
    """The three parts that have weights. A process builds only the parts named in `parts`."""

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
        """Predict the answer to one prompt per window: the training pass of the vision side.

        Args:
            images: (B, F, S, S, 3) uint8.
            prompt: Token ids (B, L).
            prompt_mask: (B, L), true for real tokens.

        Returns:
            Unit vectors (B, embedding_dim).
        """
        return self.predictor(self.x_encoder(images), prompt, prompt_mask)
