# SPDX-License-Identifier: Apache-2.0
"""Bidirectional InfoNCE between predictions and texts, with positives by meaning.

As in the paper (arXiv 2512.10942, section 3), with what closes the gap between the two kinds of
vectors: a pull of each prediction towards its meaning's texts (docs/design.md section 1).

Shapes: M predictions, N texts or meanings, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def text_loss(
    texts: Tensor, meanings: Tensor, temperature: float, also: Tensor | None = None
) -> Tensor:
    """InfoNCE among texts (N, D) of `meanings` (N,): rewordings together, all others apart.

    `also` (N, N), true where two texts may hold together: these are left out.
    """
    own = torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    left_out = own if also is None else own | also
    logits = (texts @ texts.T / temperature).masked_fill(left_out, -1e4)
    positive = (meanings[:, None] == meanings[None, :]) & ~own
    return _mean_positive(logits.log_softmax(dim=-1), positive)


def joint_loss(
    predicted: Tensor,
    meanings: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: Tensor,
    gap_weight: float,
    also: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of predictions (M, D), and its parts.

    Each prediction must find its meaning among all N `targets` (N, D), and each meaning that is
    present its predictions among all M. `meanings` (M,) are rows of `targets`; `weight` (M,);
    `also` (N, N), true where two meanings may hold together: these are left out.
    """
    logits = scale * predicted @ targets.T
    if also is not None:
        logits = logits.masked_fill(also[meanings], -1e4)
    each = functional.cross_entropy(logits, meanings, reduction='none')
    forth = (each * weight).sum() / weight.sum()
    present = meanings.unique()
    back = _mean_positive(
        logits[:, present].T.log_softmax(dim=-1), present[:, None] == meanings[None, :]
    )
    cosine = (predicted * targets[meanings]).sum(dim=-1)
    gap = ((1 - cosine) * weight).sum() / weight.sum()
    loss = 0.5 * (forth + back) + gap_weight * gap
    return loss, {'forth': forth, 'back': back, 'gap': gap}


def _mean_positive(log_p: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of the mean negative log-probability of each row's positives."""
    count = positive.sum(dim=-1)
    each = -(log_p * positive).sum(dim=-1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
