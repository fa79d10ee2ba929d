# SPDX-License-Identifier: Apache-2.0
"""The Predictor of a streaming model: predicts answer embeddings from visual tokens and prompts.

Visual tokens (the prefix) have block-causal attention and do not attend to prompts, so their keys
and values are shared by all prompts. Prompt tokens and K learned answer tokens (the suffix) attend
to the visual tokens of one window and to each other. The answer embedding is pooled from the
answer tokens only (docs/design.md section 1).

Shapes: B clips, T tubelets, Nx X-Encoder tokens per tubelet, Dx width of the X-Encoder, N visual
tokens per tubelet after m x m X-Encoder tokens are merged into one, D width, H heads, E = D / H,
P prompts, L prompt tokens, Dt width of the text tower, W attention window in tubelets, M pairs of
a prompt and a tubelet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.block import Block, KeyValue, ages, band_mask
from vljepa_ros.model.streaming.rope import rotate


class Predictor(nn.Module):
    """Transformer that predicts answer embeddings from visual tokens and prompts.

    Training calls `forward`. Streaming calls `step` for every tubelet and `ask` for prompts.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.window = config.predictor, config.time.window_tubelets
        self.grid = config.x_encoder.grid
        width, merge = self.config.width, self.config.merge
        self.visual = nn.Linear(config.x_encoder.width * merge**2, width)
        self.prompt = nn.Linear(config.text_tower.width, width)
        self.answer = nn.Parameter(0.02 * torch.randn(self.config.answer_tokens, width))
        self.blocks = nn.ModuleList(
            Block(width, self.config.heads) for _ in range(self.config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.embedding_dim)

    def merge(self, visual: Tensor) -> Tensor:
        """Merge m x m neighboring visual tokens: (..., Nx, Dx) -> (..., N, D), N = Nx / m^2."""
        side, m = self.grid // self.config.merge, self.config.merge
        x = visual.unflatten(-2, (side, m, side, m)).movedim(-4, -3)  # (..., side, side, m, m, Dx)
        return self.visual(x.flatten(-3).flatten(-3, -2))

    def forward(self, visual: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answer embedding of each of P prompts at every tubelet of B clips.

        Args:
            visual: Visual tokens (B, T, Nx, Dx) of the X-Encoder.
            prompt: Token states of the text tower (B, P, L, Dt).
            prompt_mask: (B, P, L), true for real tokens.

        Returns:
            Unit vectors (B, P, T, embedding_dim).
        """
        batch, tubelets = visual.shape[:2]
        prompts = prompt.shape[1]
        clip = torch.arange(batch, device=visual.device).repeat_interleave(prompts * tubelets)
        at = torch.arange(tubelets, device=visual.device).repeat(batch * prompts)
        each, mask = (
            x.flatten(0, 1).repeat_interleave(tubelets, dim=0) for x in (prompt, prompt_mask)
        )
        answers = self.answers(self.prefix(visual), each, mask, clip, at)
        return answers.unflatten(0, (batch, prompts, tubelets))

    def prefix(self, visual: Tensor) -> list[KeyValue]:
        """Process the visual tokens (B, T, Nx, Dx) of clips; return keys and values per layer."""
        x = self.merge(visual)
        _, tubelets, tokens, _ = x.shape
        band = band_mask(tubelets, tokens, self.window, x.device)
        caches = []
        for block in self.blocks:
            x, cache = block.band(x, band)  # type: ignore[operator]
            caches.append(cache)
        return caches

    def answers(
        self, prefix: list[KeyValue], prompt: Tensor, prompt_mask: Tensor, clip: Tensor, at: Tensor
    ) -> Tensor:
        """Predict answer embeddings for M pairs of a prompt and a tubelet of a clip.

        Args:
            prefix: Result of the method `prefix` for B clips of T tubelets.
            prompt: Token states of the text tower (M, L, Dt).
            prompt_mask: (M, L), true for real tokens.
            clip: Index of each pair's clip (M,), 0..B - 1.
            at: Index of each pair's tubelet (M,), 0..T - 1.

        Returns:
            Unit vectors (M, embedding_dim).
        """
        tubelets, tokens = prefix[0].keys.shape[2:4]
        window = min(self.window, tubelets)
        attended = at[:, None] - ages(window, at.device)  # (M, W), negative: before the clip
        visible = (attended >= 0).repeat_interleave(tokens, dim=1)
        allowed = torch.cat([visible, self._suffix_mask(prompt_mask)], dim=-1)[:, None, None]
        rows = (clip[:, None] * tubelets + attended.clamp(min=0)).flatten()
        index = torch.arange(tubelets, device=at.device)[:, None]
        suffix = self._suffix(prompt)
        for block, cache in zip(self.blocks, prefix, strict=True):
            keys, values = (
                x.transpose(1, 2)  # (B, T, H, N, E)
                .flatten(0, 1)
                .index_select(0, rows)
                .unflatten(0, (-1, window))
                .transpose(1, 2)
                .flatten(2, 3)  # (M, H, W*N, E)
                for x in (rotate(cache.keys, index), cache.values)
            )
            suffix = block.suffix(suffix, keys, values, allowed, at)  # type: ignore[operator]
        return self._pool(suffix, prompt.shape[1])

    def step(self, visual: Tensor, caches: list[KeyValue | None]) -> list[KeyValue | None]:
        """Process the visual tokens (B, Nx, Dx) of the newest tubelet and return updated caches.

        Args:
            visual: Visual tokens of the X-Encoder.
            caches: One cache per layer; None at the start of a stream.
        """
        x = self.merge(visual)
        renewed: list[KeyValue | None] = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.step(x, cache, self.window)  # type: ignore[operator]
            renewed.append(cache)
        return renewed

    def ask(self, caches: list[KeyValue | None], prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answer embeddings of P prompts at the newest tubelet of one stream.

        Args:
            caches: Result of `step` for one stream (B = 1).
            prompt: Token states of the text tower (P, L, Dt).
            prompt_mask: (P, L), true for real tokens.

        Returns:
            Unit vectors (P, embedding_dim).
        """
        prompts, length = prompt.shape[:2]
        suffix, own = self._suffix(prompt), self._suffix_mask(prompt_mask)
        for block, cache in zip(self.blocks, caches, strict=True):
            assert cache is not None
            count = cache.keys.shape[2]
            keys = rotate(cache.keys, -ages(count, suffix.device)[:, None]).flatten(2, 3)
            values = cache.values.flatten(2, 3)
            visible = own.new_ones(prompts, keys.shape[2])
            suffix = block.suffix(  # type: ignore[operator]
                suffix,
                keys.expand(prompts, -1, -1, -1),
                values.expand(prompts, -1, -1, -1),
                torch.cat([visible, own], dim=-1)[:, None, None],
            )
        return self._pool(suffix, length)

    def _suffix(self, prompt: Tensor) -> Tensor:
        answer = self.answer.expand(*prompt.shape[:-2], -1, -1)
        return torch.cat([self.prompt(prompt), answer], dim=-2)

    def _suffix_mask(self, prompt_mask: Tensor) -> Tensor:
        answer = prompt_mask.new_ones(*prompt_mask.shape[:-1], self.config.answer_tokens)
        return torch.cat([prompt_mask, answer], dim=-1)

    def _pool(self, suffix: Tensor, length: int) -> Tensor:
        pooled = self.norm(suffix[:, length:]).mean(dim=1)
        return functional.normalize(self.head(pooled), dim=-1)
