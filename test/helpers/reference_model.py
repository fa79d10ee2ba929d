# SPDX-License-Identifier: Apache-2.0
"""The streaming VL-JEPA as one dense pass in NumPy float64, written from docs/design.md section 1.

It shares no code with vljepa_ros.model: it reads the weights by name, builds one attention matrix
over all tokens of all tubelets, and masks the tokens that must not be attended to. Positions are
absolute complex phases. One sequence of T tubelets; N tokens each; W window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Reference:
    """Weights and sizes of one model; `predict` computes every hop's answer to every prompt."""

    def __init__(self, weights: Mapping[str, Array], config: dict[str, dict[str, object]]) -> None:
        self._w, self._config = weights, config
        self.window = int(config['time']['window_tubelets'])  # type: ignore[call-overload]

    def predict(self, frames: NDArray[np.uint8], prompts: list[Array]) -> Array:
        """frames (T, F, S, S, 3); prompts: token states (L, Dt) each -> (P, T, D), unit norm."""
        visual = self._tokens(frames)  # (T, N, Dx)
        count, tokens, _ = visual.shape
        time = np.repeat(np.arange(count), tokens)
        x = visual.reshape(count * tokens, -1)
        age = time[:, None] - time[None, :]
        band = (age >= 0) & (age <= self.window - 1)
        for layer in range(int(self._config['x_encoder']['layers'])):  # type: ignore[call-overload]
            x = self._block(f'x_encoder.blocks.{layer}', x, time, band, self._heads('x_encoder'))
        x = self._norm('x_encoder.norm', x)
        return np.stack(
            [self._answers(x.reshape(count, tokens, -1), prompt) for prompt in prompts]
        )

    def _answers(self, visual: Array, prompt: Array) -> Array:
        """Compute all hops at once: visual tokens, then a copy of the suffix for each hop."""
        merged = self._merge(visual)
        count, tokens, width = merged.shape
        own = np.concatenate(
            [self._linear('predictor.prompt', prompt), self._w['predictor.answer']]
        )
        length = len(own)
        x = np.concatenate([merged.reshape(-1, width), np.tile(own, (count, 1))])
        time = np.concatenate(
            [np.repeat(np.arange(count), tokens), np.repeat(np.arange(count), length)]
        )
        is_visual = np.arange(len(x)) < count * tokens
        age = time[:, None] - time[None, :]
        sees_visual = is_visual[None, :] & (age >= 0) & (age < self.window)
        sees_own = ~is_visual[None, :] & ~is_visual[:, None] & (age == 0)
        mask = sees_visual | sees_own
        for layer in range(int(self._config['predictor']['layers'])):  # type: ignore[call-overload]
            x = self._block(f'predictor.blocks.{layer}', x, time, mask, self._heads('predictor'))
        suffix = x[count * tokens :].reshape(count, length, width)[:, len(prompt) :]
        pooled = self._norm('predictor.norm', suffix).mean(axis=1)
        answer = self._linear('predictor.head', pooled)
        return answer / np.linalg.norm(answer, axis=-1, keepdims=True)

    def _tokens(self, frames: NDArray[np.uint8]) -> Array:
        """Compute strided 3 x 3 convolutions with explicit patches."""
        count, _, size, _, _ = frames.shape
        x = (frames.astype(np.float64) / 255 - 0.45) / 0.25
        x = x.transpose(0, 1, 4, 2, 3).reshape(count, -1, size, size)
        stages = sorted(
            {
                int(name.split('.')[3])
                for name in self._w
                if name.startswith('x_encoder.stem.layers')
            }
        )
        for place in stages:
            weight = self._w[f'x_encoder.stem.layers.{place}.weight']
            if weight.ndim == 4:
                x = _convolve(x, weight, self._w[f'x_encoder.stem.layers.{place}.bias'])
            else:
                x = _group_norm(x, weight, self._w[f'x_encoder.stem.layers.{place}.bias'])
                x = _gelu(x)
        tokens = x.reshape(count, x.shape[1], -1).transpose(0, 2, 1)
        return tokens + self._w['x_encoder.position']

    def _merge(self, visual: Array) -> Array:
        """Concatenate M x M neighboring tokens, row by row."""
        count, tokens, width = visual.shape
        side, m = math.isqrt(tokens), int(self._config['predictor']['merge'])  # type: ignore[call-overload]
        grid = visual.reshape(count, side, side, width)
        cells = [
            np.concatenate(
                [grid[:, r * m + i, c * m + j] for i in range(m) for j in range(m)], axis=-1
            )
            for r in range(side // m)
            for c in range(side // m)
        ]
        return self._linear('predictor.visual', np.stack(cells, axis=1))

    def _block(
        self, name: str, x: Array, time: NDArray[np.int64], mask: NDArray[np.bool_], heads: int
    ) -> Array:
        qkv = self._linear(f'{name}.qkv', self._norm(f'{name}.norm_attention', x))
        width = x.shape[-1]
        out = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            q, k, v = (qkv[:, i * width : (i + 1) * width][:, part] for i in range(3))
            logits = _phase(q, time) @ _phase(k, time).T / math.sqrt(width // heads)
            logits = np.where(mask, logits, -np.inf)
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            out.append(p / p.sum(axis=1, keepdims=True) @ v)
        x = x + self._linear(f'{name}.project', np.concatenate(out, axis=1))
        hidden = _gelu(self._linear(f'{name}.mlp.0', self._norm(f'{name}.norm_mlp', x)))
        return x + self._linear(f'{name}.mlp.2', hidden)

    def _heads(self, part: str) -> int:
        return int(self._config[part]['heads'])  # type: ignore[call-overload]

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._w[f'{name}.weight'].T + self._w[f'{name}.bias']

    def _norm(self, name: str, x: Array) -> Array:
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * self._w[f'{name}.weight'] + self._w[f'{name}.bias']


def _phase(x: Array, time: NDArray[np.int64]) -> Array:
    """Rotate the first half of the channels (as complex numbers) by time; keep the rest."""
    quarter = x.shape[1] // 4
    turned = (x[:, :quarter] + 1j * x[:, quarter : 2 * quarter]) * np.exp(
        1j * time[:, None] * 100.0 ** (-np.arange(quarter) / quarter)
    )
    return np.concatenate([turned.real, turned.imag, x[:, 2 * quarter :]], axis=1)


def _gelu(x: Array) -> Array:
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def _convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Convolve 3 x 3 with stride 2 and zero padding of one pixel."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = x.shape[-1] // 2
    out = np.zeros((len(x), len(weight), side, side))
    for i in range(3):
        for j in range(3):
            seen = padded[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2]
            out += np.einsum('oc,nchw->nohw', weight[:, :, i, j], seen)
    return out + bias[:, None, None]


def _group_norm(x: Array, weight: Array, bias: Array, groups: int = 8) -> Array:
    shape = x.shape
    grouped = x.reshape(shape[0], groups, -1)
    mean, variance = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
    normed = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(shape)
    return normed * weight[:, None, None] + bias[:, None, None]
