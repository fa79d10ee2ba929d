# SPDX-License-Identifier: Apache-2.0
"""The Predictor: visual tokens and a prompt -> the predicted embedding of the answer.

The visual prefix is block-causal and does not attend to the prompt, so all prompts share it. The
prompt tokens and K learned answer tokens attend to the window of visual tokens and to each other.
The answer is pooled over the answer tokens only (docs/design.md section 1).

Shapes: B batch, T tubelets, N visual tokens per tubelet (merged m x m), D width, P prompts,
L prompt tokens, K answer tokens, S = L + K, W window, M pairs of a prompt and a tubelet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.block import Block, KeyValue, ages, band_mask
from vljepa_ros.model.streaming.rope import rotate


class Predictor(nn.Module):
    """Combines visual tokens and prompt tokens into answer embeddings."""

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
        """Merge m x m neighboring tokens: (..., g*g, Dx) -> (..., g*g / m^2, D)."""
        side, m = self.grid // self.config.merge, self.config.merge
        x = visual.unflatten(-2, (side, m, side, m)).movedim(-4, -3)  # (..., side, side, m, m, Dx)
        return self.visual(x.flatten(-3).flatten(-3, -2))

    def forward(self, visual: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answer to each of P prompts at every tubelet, with the banded mask.

        Args:
            visual: Visual tokens (B, T, Nx, Dx) of the X-Encoder.
            prompt: Token states (B, P, L, Dt).
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
        """Process all tubelets (B, T, Nx, Dx) at once; returns keys and values of each layer."""
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
        """Predict the answers (M, embedding_dim) to M prompts, each at one tubelet of one clip.

        Args:
            prefix: Keys and values of each layer from `prefix`.
            prompt: Token states (M, L, Dt).
            prompt_mask: (M, L), true for real tokens.
            clip: Index of the clip in B, (M,).
            at: Index of the tubelet in T, (M,).
        """
        tubelets, tokens = prefix[0].keys.shape[2:4]
        window = min(self.window, tubelets)
        attended = at[:, None] - ages(window, at.device)  # (M, W), negative before the clip
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
        """Advance the visual prefix by one tubelet (B, Nx, Dx); returns the updated caches."""
        x = self.merge(visual)
        renewed: list[KeyValue | None] = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.step(x, cache, self.window)  # type: ignore[operator]
            renewed.append(cache)
        return renewed

    def ask(self, caches: list[KeyValue | None], prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict the answers (P, embedding_dim) from the caches of one stream (B = 1).

        Args:
            caches: One cache per layer from `step`.
            prompt: Token states (P, L, Dt).
            prompt_mask: (P, L), true for real tokens.
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
