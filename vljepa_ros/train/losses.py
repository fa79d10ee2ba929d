# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses: InfoNCE among texts, and bidirectional InfoNCE of predictions and concepts.

The latter follows the paper (arXiv 2512.10942, section 3). An additional term reduces the modality
gap: it pulls each prediction towards the embedding of its concept (docs/design.md section 1).

Shapes: M predictions, N texts or concepts, D embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORE_INDEX = -100  # default ignore_index of functional.cross_entropy


def text_loss(
    texts: Tensor, concepts: Tensor, temperature: float, also: Tensor | None = None
) -> Tensor:
    """Return the InfoNCE loss among texts, a scalar; texts of the same concept are positives.

    All other texts are negatives.

    Args:
        texts: Unit vectors (N, D).
        concepts: Integer id of the concept of each text (N,).
        temperature: Temperature of the softmax.
        also: (N, N) bool, true for pairs to ignore, such as texts that may be true together.
    """
    own = torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    left_out = own if also is None else own | also
    logits = (texts @ texts.T / temperature).masked_fill(left_out, -1e4)
    positive = (concepts[:, None] == concepts[None, :]) & ~own
    return _mean_positive(logits.log_softmax(dim=-1), positive)


def joint_loss(
    predicted: Tensor,
    concepts: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: Tensor,
    gap_weight: float,
    also: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the bidirectional InfoNCE loss of predictions, plus the modality-gap term.

    One direction classifies each prediction among all N concepts. The other one classifies, for
    each concept with a prediction, which of the M predictions belong to it.

    Args:
        predicted: Predicted embeddings, unit vectors (M, D).
        concepts: Row in `targets` of each prediction's concept (M,).
        weight: Weight of each prediction (M,) in the prediction-to-text direction and in the
            gap term; the text-to-prediction direction is unweighted.
        targets: Embeddings of the concepts, unit vectors (N, D).
        scale: Factor of the cosines in the softmax (inverse temperature).
        gap_weight: Weight of the mean of 1 - cosine between predictions and their targets.
        also: (N, N) bool, true for different concepts that may be true together; these pairs
            are ignored. The diagonal is false.

    Returns:
        The loss, and its terms `prediction_to_text`, `text_to_prediction` and `gap`.
    """
    logits = scale * predicted @ targets.T
    if also is not None:
        logits = logits.masked_fill(also[concepts], -1e4)
    each = functional.cross_entropy(logits, concepts, reduction='none')
    to_texts = (each * weight).sum() / weight.sum()
    present = concepts.unique()
    to_predictions = _mean_positive(
        logits[:, present].T.log_softmax(dim=-1), present[:, None] == concepts[None, :]
    )
    cosine = (predicted * targets[concepts]).sum(dim=-1)
    gap = ((1 - cosine) * weight).sum() / weight.sum()
    loss = 0.5 * (to_texts + to_predictions) + gap_weight * gap
    return loss, {'prediction_to_text': to_texts, 'text_to_prediction': to_predictions, 'gap': gap}


def _mean_positive(log_p: Tensor, positive: Tensor) -> Tensor:
    """Average the negative log-probability over the positives of each row, then over rows.

    Rows without positives are ignored.

    Args:
        log_p: Log-probabilities (rows, columns).
        positive: Mask of the positives, of the same shape.
    """
    count = positive.sum(dim=-1)
    each = -(log_p * positive).sum(dim=-1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)
