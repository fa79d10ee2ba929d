# SPDX-License-Identifier: Apache-2.0
"""The Y-Decoder: a small causal transformer that decodes an embedding into a sentence.

As in ClipCap (Mokady et al., arXiv 2111.09734), a linear layer converts the embedding to prefix
vectors, which the transformer continues with tokens; the VL-JEPA paper does not describe its
decoder. The vocabulary consists of the word pieces of a tokenizer that occur in the training
sentences.

Shapes: B embeddings, L tokens, D embedding_dim, Dw width, H heads, V vocabulary, K beams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.config import YDecoderConfig
from vljepa_ros.model.transformer_block import TransformerBlock

END = 0  # local token id that ends a sentence

Past = tuple[Tensor, Tensor]  # cached keys and values (B, H, L, Dw / H) of a block


class DecoderBlock(TransformerBlock):
    """Transformer block with causal attention and a cache of keys and values."""

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Process the newest tokens of B sequences.

        Args:
            x: Input of the block (B, L, Dw). With `past`, L must be 1.
            past: Keys and values of all earlier tokens; None if there are no earlier tokens.

        Returns:
            The output, of the shape of x, and the keys and values of all tokens.
        """
        q, k, v = self.split(x)
        if past is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v), strict=True))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        return self.finish(x, attended), (k, v)


class YDecoder(nn.Module):
    """Text decoder with beam search. Its token ids are local: indices into its own vocabulary.

    `token_ids` contains the tokenizer id of every local token id except `END`.
    """

    token_ids: Tensor

    def __init__(self, config: YDecoderConfig, embedding_dim: int) -> None:
        super().__init__()
        self.config = config
        width = self.config.width
        self.register_buffer('token_ids', torch.zeros(self.config.vocabulary, dtype=torch.int32))
        self.prefix = nn.Linear(embedding_dim, self.config.prefix_tokens * width)
        self.token = nn.Embedding(self.config.vocabulary, width)
        self.position = nn.Parameter(
            0.02 * torch.randn(self.config.prefix_tokens + self.config.max_tokens + 1, width)
        )
        self.blocks = nn.ModuleList(
            DecoderBlock(width, self.config.heads) for _ in range(self.config.layers)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Compute the logits of the next token, after the prefix and after each token.

        Args:
            vectors: Embeddings (B, D).
            tokens: Local token ids of the sentences (B, L).

        Returns:
            Logits (B, L + 1, V).
        """
        x = torch.cat([self._prefix(vectors), self.token(tokens)], dim=1)
        logits, _ = self._run(x, 0)
        return logits[:, self.config.prefix_tokens - 1 :]

    def _prefix(self, vectors: Tensor) -> Tensor:
        return self.prefix(vectors).unflatten(-1, (self.config.prefix_tokens, -1))

    def _run(
        self, x: Tensor, first: int, past: Sequence[Past | None] | None = None
    ) -> tuple[Tensor, list[Past]]:
        """Run all blocks on the newest tokens of B sequences.

        Args:
            x: Embeddings of the tokens (B, L, Dw).
            first: Position of the first of these tokens.
            past: Keys and values of all earlier tokens, for each block.

        Returns:
            Logits of the next token (B, L, V), and the keys and values of all tokens, per block.
        """
        x = x + self.position[first : first + x.shape[1]]
        renewed = []
        for block, before in zip(self.blocks, past or [None] * len(self.blocks), strict=True):
            x, after = block(x, before)
            renewed.append(after)
        return functional.linear(self.norm(x), self.token.weight), renewed

    @torch.inference_mode()
    def generate(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Decode embeddings (B, D) into K sentences each by beam search.

        Returns:
            Local token ids (B, K, L), padded with END, and the mean log-probabilities of the
            sentences' tokens (B, K). The sentence with the highest mean comes first.
        """
        batch, beams = vectors.shape[0], self.config.beams
        logits, past = self._run(self._prefix(vectors).repeat_interleave(beams, dim=0), 0)
        rows = beams * torch.arange(batch, device=vectors.device).unsqueeze(-1)
        tokens = torch.zeros(batch, beams, 0, dtype=torch.long, device=vectors.device)
        score = torch.full((batch, beams), -torch.inf, device=vectors.device)
        score[:, 0] = 0.0  # all beams are equal at the start, so only the first beam may branch
        length = torch.zeros(batch, beams, device=vectors.device)
        done = torch.zeros(batch, beams, dtype=torch.bool, device=vectors.device)
        for position in range(self.config.max_tokens):
            step = logits[:, -1].log_softmax(dim=-1).unflatten(0, (batch, beams))
            stay = torch.full_like(step, -torch.inf)
            stay[..., END] = 0.0
            step = torch.where(done.unsqueeze(-1), stay, step)
            score, flat = (score.unsqueeze(-1) + step).flatten(1).topk(beams, dim=-1)
            beam, token = flat // step.shape[-1], flat % step.shape[-1]
            tokens = torch.cat(
                [
                    tokens.gather(1, beam.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])),
                    token.unsqueeze(-1),
                ],
                dim=-1,
            )
            length = length.gather(1, beam) + (~done.gather(1, beam)).float()
            done = done.gather(1, beam) | (token == END)
            if bool(done.all()) or position == self.config.max_tokens - 1:
                break
            chosen = (rows + beam).flatten()
            past = [(keys[chosen], values[chosen]) for keys, values in past]
            newest = self.token(token.flatten()).unsqueeze(1)
            logits, past = self._run(newest, self.config.prefix_tokens + position, past)
        mean, order = (score / length.clamp(min=1.0)).sort(dim=-1, descending=True)
        return tokens.gather(1, order.unsqueeze(-1).expand_as(tokens)), mean
