# SPDX-License-Identifier: Apache-2.0
"""Causal decoder with a prefix: the decoder of arm B and the Y-Decoder of the other arms.

Input and output use MiniLM's frozen token embeddings with a trained projection.

Shapes: B sequences, R prefix vectors of width Di, L tokens, Dw width, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.language.y_decoder import END
from vljepa_ros.model.streaming.block import Block, attend
from vljepa_ros.train.decoder_stage import pad
from vljepa_ros.train.losses import IGNORE_INDEX

Cache = list[tuple[Tensor, ...]]  # each layer's keys and values (B, H, L, E); () if empty


class Writer(nn.Module):
    """Causal decoder; `table` (V, Dt) has the vocabulary's embeddings, local id 0 is END."""

    table: Tensor

    def __init__(
        self,
        inputs: int,
        prefix: tuple[int, int],
        size: tuple[int, int, int],
        table: Tensor,
        longest: int,
    ) -> None:
        """Create a decoder.

        Args:
            inputs: Width of a prefix vector, Di.
            prefix: Number of prefix vectors, and number of tokens made from each.
            size: Width, layers and heads.
            table: Token embeddings (V, Dt).
            longest: Maximum number of tokens of a text.
        """
        super().__init__()
        vectors, self.each = prefix
        width, layers, heads = size
        self.longest = longest
        self.register_buffer('table', (table - table.mean(dim=0)) / table.std())
        self.prefix = nn.Linear(inputs, self.each * width)
        self.token = nn.Linear(table.shape[1], width)
        self.output = nn.Linear(width, table.shape[1])
        self.position = nn.Parameter(0.02 * torch.randn(vectors * self.each + longest, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.output.weight, std=0.02)

    def forward(self, prefix: Tensor, tokens: Tensor) -> Tensor:
        """Return next-token logits (B, L + 1, V) after prefix (B, R, Di) and tokens (B, L)."""
        x = torch.cat([self._prefix(prefix), self.token(self.table[tokens])], dim=1)
        x, _ = self._extend(x, self._empty())
        return self._logits(x[:, -tokens.shape[1] - 1 :])

    def loss(self, prefix: Tensor, sentences: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean cross-entropy per token."""
        tokens, targets = pad(sentences)
        logits = self.forward(prefix, tokens).float()
        return functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX
        )

    @torch.inference_mode()
    def greedy(self, prefix: Tensor, steps: int = 0) -> list[list[int]]:
        """Decode greedily until END; with `steps`, decode exactly that many tokens."""
        x, cache = self._extend(self._prefix(prefix), self._empty())
        said = torch.zeros(len(prefix), 0, dtype=torch.long)
        ended = torch.zeros(len(prefix), dtype=torch.bool)
        for _ in range(steps or self.longest):
            token = self._logits(x[:, -1]).argmax(dim=-1)
            said, ended = torch.cat([said, token[:, None]], dim=1), ended | (token == END)
            if said.shape[1] == (steps or self.longest) or (not steps and bool(ended.all())):
                break
            x, cache = self._extend(self.token(self.table[token])[:, None], cache)
        rows = said.tolist()
        return [row[: row.index(END)] if END in row and not steps else row for row in rows]

    @torch.inference_mode()
    def likelihood(self, prefix: Tensor, candidates: Sequence[Sequence[int]]) -> Tensor:
        """Return mean log-probabilities (C,) per token, END included, for one prefix (R, Di)."""
        x, cache = self._extend(self._prefix(prefix[None]), self._empty())
        tokens, targets = pad(candidates)
        count = len(candidates)
        shared = [tuple(x.expand(count, -1, -1, -1) for x in kept) for kept in cache]
        more, _ = self._extend(self.token(self.table[tokens]), shared)
        logits = self._logits(torch.cat([x[:, -1:].expand(count, -1, -1), more], dim=1)).float()
        known = targets != IGNORE_INDEX
        log_p = logits.log_softmax(dim=-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return (log_p * known).sum(dim=-1) / known.sum(dim=-1)

    def _prefix(self, prefix: Tensor) -> Tensor:
        return self.prefix(prefix).unflatten(-1, (self.each, -1)).flatten(1, 2)

    def _empty(self) -> Cache:
        return [() for _ in self.blocks]

    def _extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Process the next tokens x (B, L, Dw) with the cache; return outputs and new cache."""
        before = cache[0][0].shape[2] if cache[0] else 0
        length, renewed = x.shape[1], Cache()
        x = x + self.position[before : before + length]
        mask = torch.ones(length, before + length, dtype=torch.bool, device=x.device).tril(before)
        for block, kept in zip(self.blocks, cache, strict=True):
            q, k, v = block.split(x)  # type: ignore[operator]
            if kept:
                k, v = torch.cat([kept[0], k], dim=2), torch.cat([kept[1], v], dim=2)
            renewed.append((k, v))
            x = block.finish(x, attend(q, k, v, mask))  # type: ignore[operator]
        return x, renewed

    def _logits(self, x: Tensor) -> Tensor:
        return (
            functional.linear(self.output(self.norm(x)), self.table) / self.table.shape[1] ** 0.5
        )
