# SPDX-License-Identifier: Apache-2.0
"""Beam search against probabilities that are added up one sentence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vljepa_ros.model.config import YDecoderConfig
from vljepa_ros.model.language.y_decoder import END, YDecoder

VECTORS = 6


@pytest.fixture(scope='module')
def decoder() -> YDecoder:
    """Return a decoder with random weights over six words; sentences have various lengths."""
    torch.manual_seed(4)
    config = YDecoderConfig(
        width=32, layers=2, heads=2, max_tokens=7, beams=4, vocabulary=6, prefix_tokens=2
    )
    decoder = YDecoder(config, 16).eval()
    torch.nn.init.normal_(decoder.token.weight, std=0.7)
    return decoder


def mean_log_probability(decoder: YDecoder, vector: torch.Tensor, tokens: list[int]) -> float:
    """Compute it for a sentence including END, with one forward pass per token."""
    total, generated = 0.0, list[int]()
    for token in tokens:
        logits = decoder(vector[None], torch.tensor([generated], dtype=torch.long))[0, -1]
        total += float(logits.log_softmax(dim=-1)[token])
        generated.append(token)
        if token == END:
            break
    return total / len(generated)


@torch.no_grad()
def test_the_score_of_each_beam_is_its_mean_log_probability(decoder: YDecoder) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(VECTORS, 16), dim=-1)
    tokens, scores = decoder.generate(vectors)
    lengths = set()
    for vector, beams, found in zip(vectors, tokens.tolist(), scores.tolist(), strict=True):
        expected = [mean_log_probability(decoder, vector, beam) for beam in beams]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found == sorted(found, reverse=True)
        lengths |= {beam.index(END) if END in beam else len(beam) for beam in beams}
    assert len(lengths) > 1, 'no beam ended before another: the test shows nothing'


@torch.no_grad()
def test_beams_are_distinct(decoder: YDecoder) -> None:
    tokens, _ = decoder.generate(torch.nn.functional.normalize(torch.randn(VECTORS, 16), dim=-1))
    for beams in tokens.tolist():
        ended = [tuple(b[: b.index(END)]) if END in b else tuple(b) for b in beams]
        assert len(set(ended)) == len(ended)
