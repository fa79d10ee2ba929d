# SPDX-License-Identifier: Apache-2.0
"""The Predictor of a bidirectional model: Llama layers over visual tokens and prompt tokens.

It follows arXiv 2512.10942, section 3.1, and the training of the checkpoint `cun-bjy/open-vljepa`:
visual tokens come before prompt tokens, every token attends to all tokens except padding, and a
linear layer projects the mean of all output tokens. The module has Llama's token embeddings and
its last layers. Weights have the names of the checkpoint.

Shapes: B pairs of a window and a prompt, V visual tokens of width Dx, L prompt tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from vljepa_ros.model.bidirectional.config import PredictorConfig


class Predictor(nn.Module):
    """Maps visual tokens and a prompt to an answer embedding, one forward pass per prompt."""

    def __init__(self, config: PredictorConfig, visual_width: int, embedding_dim: int) -> None:
        super().__init__()
        llama = _llama(config)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(LlamaDecoderLayer(llama, i) for i in range(config.layers))
        for layer in self.layers:
            # If is_causal were true, a mask of None (no padding) would select causal attention.
            layer.self_attn.is_causal = False  # type: ignore[union-attr]
        self.norm = LlamaRMSNorm(config.width, eps=config.norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=llama)
        self.vis_proj = nn.Linear(visual_width, config.width)
        self.out_proj = nn.Linear(config.width, embedding_dim)

    def forward(self, visual: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict answer embeddings: unit vectors (B, embedding_dim), float32.

        Args:
            visual: Visual tokens (B, V, Dx).
            prompt: Token ids (B, L).
            prompt_mask: (B, L), true for real tokens.
        """
        batch, count, _ = visual.shape
        x = torch.cat([self.vis_proj(visual), self.embed_tokens(prompt)], dim=1)
        real = torch.cat([prompt_mask.new_ones(batch, count), prompt_mask], dim=1)  # (B, V + L)
        length = x.shape[1]
        allowed = None if bool(real.all()) else real[:, None, None].expand(-1, 1, length, -1)
        position_ids = torch.arange(length, device=x.device)[None]
        cos_sin = self.rotary_emb(x, position_ids)
        for layer in self.layers:
            x = layer(
                x,
                attention_mask=allowed,
                position_ids=position_ids,
                position_embeddings=cos_sin,
            )
        # The mean of about 1,000 tokens is computed in float32, as in mixed-precision training.
        x = self.norm(x).float() * real.unsqueeze(-1)
        mean = x.sum(dim=1) / real.sum(dim=1, keepdim=True)
        answer = self.out_proj(mean.to(self.out_proj.weight.dtype))
        return functional.normalize(answer.float(), dim=-1)


def _llama(config: PredictorConfig) -> LlamaConfig:
    scaled = {
        'rope_type': 'llama3',
        'factor': config.rope_factor,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': config.rope_original_tokens,
    }
    return LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        head_dim=config.head_width,
        rms_norm_eps=config.norm_eps,
        max_position_embeddings=int(config.rope_original_tokens * (config.rope_factor or 1)),
        rope_theta=config.rope_theta,
        rope_scaling=scaled if config.rope_factor else None,
        attn_implementation='sdpa',
    )
