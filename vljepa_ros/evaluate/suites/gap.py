# SPDX-License-Identifier: Apache-2.0
"""Suite gap: modality gap between predicted embeddings and their target text embeddings."""

from __future__ import annotations

import numpy as np

from vljepa_ros.evaluate.act_classification import acts
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.probing import PROMPT
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, auroc, mean
from vljepa_ros.evaluate.views import Vectors, blind_answers

FOLDS = 5


def gap(context: Context) -> Report:
    """Return cosines to the targets, and distance and separability of predictions and targets."""
    concepts = context.concepts
    found = [
        act
        for act in acts(context, concepts.train_tasks)
        if act.annotation.colour != concepts.held_out_color(act.annotation.task)
    ]
    if len(found) < FOLDS:
        return Report('gap', (), (f'These streams have fewer than {FOLDS} actions.',))
    predicted = np.stack([act.vector for act in found])
    target = np.stack([context.centroid(act.annotation.meaning) for act in found])
    streams = [act.stream for act in found]
    distance = float(np.linalg.norm(predicted.mean(axis=0) - target.mean(axis=0)))
    blind = blind_answers(context.vision, [PROMPT])[0]
    return Report(
        'gap',
        (
            _cosine('ours', predicted, target, streams),
            _cosine('blind', blind, target, streams),
            Row('ours', 'distance of the centers', Mean(distance, distance, distance, len(found))),
            Row(
                'ours',
                'AUROC of predictions against targets',
                mean(separability(predicted, target)),
            ),
        ),
        (
            'Actions of the training tasks. At AUROC 0.5, predictions cannot be separated from '
            'text embeddings.',
        ),
    )


def _cosine(who: str, predicted: Vectors, target: Vectors, streams: list[str]) -> Row:
    cosine = (predicted * target).sum(axis=1)
    return Row(who, 'cosine to the target', mean(cosine, clusters=streams))


def separability(one: Vectors, other: Vectors, folds: int = FOLDS) -> list[float]:
    """Return the AUROC, per cross-validation fold, of a ridge classifier of two vector sets."""
    x = np.concatenate([one, other]).astype(np.float64)
    y = np.concatenate([np.ones(len(one)), -np.ones(len(other))])
    order, found = np.random.default_rng(0).permutation(len(x)), []
    for fold in np.array_split(order, folds):
        rest = np.setdiff1d(order, fold)
        centered = x[rest] - x[rest].mean(axis=0)
        weights = np.linalg.solve(
            centered.T @ centered + 1e-2 * len(rest) * np.eye(x.shape[1]) / x.shape[1],
            centered.T @ y[rest],
        )
        if len(set(y[fold])) == 2:  # a small fold may have one kind only
            found.append(auroc(x[fold] @ weights, y[fold] > 0))
    return found
