# SPDX-License-Identifier: Apache-2.0
"""Suites paraphrase and gap: the space of texts, and how far predictions lie from it."""

from __future__ import annotations

import numpy as np

from vljepa_ros.data.mwstream.meanings import meanings, sentences
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS, training_colours
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.suites.classify import acts
from vljepa_ros.evaluate.views import Vectors

PARAPHRASE_MARK = 0.90
TRIPLES_A_SLOT = 300


def paraphrase(context: Context) -> Report:
    """Is a held-out rewording nearer to a sentence than one that differs in one slot?"""
    rng, rows, everything = np.random.default_rng(0), [], list[float]()
    known = meanings(TRAIN_TASKS, held_out_colours=False)
    for slot in ('action or object', 'phase', 'colour'):
        pairs = [(m, other) for m in known for other in [change(m, slot, known, rng)] if other]
        chosen = [pairs[i] for i in rng.permutation(len(pairs))[:TRIPLES_A_SLOT]]
        right = [float(_is_nearer(context, m, other, rng)) for m, other in chosen]
        rows.append(Row('ours', slot, mean(right)))
        everything += right
    rows.append(Row('ours', 'all', mean(everything), PARAPHRASE_MARK))
    return Report('paraphrase', tuple(rows), ('Rewording and distractor in held-out wordings.',))


def change(meaning: str, slot: str, known: list[str], rng: np.random.Generator) -> str | None:
    """A known meaning that differs from `meaning` in one slot; None where there is none."""
    parts = meaning.split(':')
    if len(parts) != 3:
        return None
    at = {'phase': 0, 'action or object': 1, 'colour': 2}[slot]
    near = [
        other
        for other in known
        for others in [other.split(':')]
        if len(others) == 3 and [i for i in range(3) if others[i] != parts[i]] == [at]
    ]
    return str(rng.choice(near)) if near else None


def _is_nearer(context: Context, meaning: str, other: str, rng: np.random.Generator) -> bool:
    texts = [
        str(rng.choice(sentences(meaning, 'train'))),
        str(rng.choice(sentences(meaning, 'heldout'))),
        str(rng.choice(sentences(other, 'heldout'))),
    ]
    anchor, same, changed = context.language.encode(texts)
    return bool(anchor @ same > anchor @ changed)


def gap(context: Context) -> Report:
    """Cosine of predictions to their targets; how far and how separable the two kinds are."""
    found = [
        act
        for act in acts(context, TRAIN_TASKS)
        if act.annotation.colour in training_colours(act.annotation.task)
    ]
    predicted = np.stack([act.vector for act in found])
    target = np.stack([context.centre(act.annotation.meaning) for act in found])
    distance = float(np.linalg.norm(predicted.mean(axis=0) - target.mean(axis=0)))
    return Report(
        'gap',
        (
            Row('ours', 'cosine to the target', mean((predicted * target).sum(axis=1))),
            Row('ours', 'distance of the centres', Mean(distance, distance, distance, len(found))),
            Row('ours', 'AUC of telling them apart', mean(separability(predicted, target))),
        ),
        ('Acts of the training tasks. AUC 0.5: nothing tells a prediction from a text.',),
    )


def separability(one: Vectors, other: Vectors, folds: int = 5) -> list[float]:
    """AUC of a linear discriminant (ridge) between two kinds of vectors, on folds left out."""
    x = np.concatenate([one, other]).astype(np.float64)
    y = np.concatenate([np.ones(len(one)), -np.ones(len(other))])
    order, found = np.random.default_rng(0).permutation(len(x)), []
    for fold in np.array_split(order, folds):
        rest = np.setdiff1d(order, fold)
        centred = x[rest] - x[rest].mean(axis=0)
        weights = np.linalg.solve(
            centred.T @ centred + 1e-2 * len(rest) * np.eye(x.shape[1]) / x.shape[1],
            centred.T @ y[rest],
        )
        found.append(auc(x[fold] @ weights, y[fold] > 0))
    return found


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive has the higher score (ties half)."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean()) if above.size else float('nan')
