# SPDX-License-Identifier: Apache-2.0
"""The Y-Encoder of a bidirectional model: EmbeddingGemma, mean pooling and linear projection.

As in the training of the checkpoint `cun-bjy/open-vljepa`, the last hidden states of all tokens
except padding are averaged. EmbeddingGemma's own dense layers and prompts ("task: ...") are not
used. Weights have the names of the checkpoint.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import Gemma3TextConfig, Gemma3TextModel

from vljepa_ros.model.bidirectional.config import YEncoderConfig


class YEncoder(nn.Module):
    """Text encoder that embeds texts in the space of answer embeddings.

    It cannot run in float16, because its activations overflow.
    """

    def __init__(self, config: YEncoderConfig, embedding_dim: int) -> None:
        super().__init__()
        gemma = Gemma3TextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            head_dim=config.head_width,
            query_pre_attn_scalar=config.head_width,
            rms_norm_eps=config.norm_eps,
            sliding_window=config.sliding_window,
            use_bidirectional_attention=True,
            attn_implementation='sdpa',
        )
        self.model = Gemma3TextModel(gemma)
        self.projector = nn.Linear(config.width, embedding_dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed texts as unit vectors (B, embedding_dim), float32.

        Args:
            tokens: Token ids (B, L).
            mask: (B, L), true for real tokens.
        """
        states = self.model(input_ids=tokens, attention_mask=mask.long(), use_cache=False)
        x = states.last_hidden_state.float() * mask.unsqueeze(-1)
        mean = x.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        projected = self.projector(mean.to(self.projector.weight.dtype))
        return functional.normalize(projected.float(), dim=-1)
