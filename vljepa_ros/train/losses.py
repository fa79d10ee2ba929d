# SPDX-License-Identifier: Apache-2.0
"""Bidirectional InfoNCE between predictions and texts, with several positives a meaning.

As in the paper (arXiv 2512.10942, section 3), with what closes the gap between the two kinds of
vectors: a pull of each prediction towards its meaning's texts, and text-to-text pairs
(DESIGN.md section 1).

Shapes: M predictions, N texts, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrast(
    queries: Tensor,
    query_ids: Tensor,
    keys: Tensor,
    key_ids: Tensor,
    scale: Tensor,
    weight: Tensor,
    same: bool = False,
) -> Tensor:
    """Mean negative log-probability of the positives of each query (M, D) among keys (N, D).

    Ids are meanings; equal ids are positives. `same`: queries are the keys, and nothing is its own
    positive. Queries without a positive do not count; `weight` (M,) weighs the others.
    """
    logits = scale * queries @ keys.T
    positive = query_ids[:, None] == key_ids[None, :]
    if same:
        own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
        logits, positive = logits.masked_fill(own, -1e4), positive & ~own
    log_p = logits.log_softmax(dim=-1)
    count = positive.sum(dim=-1)
    each = -(log_p * positive).sum(dim=-1) / count.clamp(min=1)
    weight = weight * (count > 0)
    return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def joint_loss(
    predicted: Tensor,
    predicted_ids: Tensor,
    weight: Tensor,
    texts: Tensor,
    text_ids: Tensor,
    scale: Tensor,
    gap_weight: float,
    text_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of predictions (M, D) and texts (N, D), all unit vectors; and its parts."""
    ones = torch.ones(len(texts), device=texts.device)
    forth = contrast(predicted, predicted_ids, texts, text_ids, scale, weight)
    back = contrast(texts, text_ids, predicted, predicted_ids, scale, ones)
    text = contrast(texts, text_ids, texts, text_ids, scale, ones, same=True)
    positive = (predicted_ids[:, None] == text_ids[None, :]).float()
    centre = functional.normalize(positive @ texts, dim=-1)
    cosine = (predicted * centre).sum(dim=-1)
    gap = ((1 - cosine) * weight).sum() / weight.sum()
    loss = 0.5 * (forth + back) + text_weight * text + gap_weight * gap
    return loss, {'forth': forth, 'back': back, 'text': text, 'gap': gap}
