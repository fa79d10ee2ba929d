# SPDX-License-Identifier: Apache-2.0
"""Suite retrieve: retrieval of clips by a held-out paraphrase of their concept, among 500 clips.

Clips are the middles of annotations of the phases reach, contact and act, chosen evenly over
(task, phase) and the cameras. A clip is relevant if it has the concept of the query. Every concept
of the gallery is queried once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import AnnotationMoment, evenly, in_turn, moments
from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.probing import PROMPT, caption
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.statistics import mean
from vljepa_ros.evaluate.views import Vectors, blind_answers

CLIPS, PHASES, TARGET, WIDE = 500, ('reach', 'contact', 'act'), 0.80, 5


def retrieve(context: Context) -> Report:
    """Return R@1 and R@5 of text-to-clip retrieval, and R@1 of clip-to-text retrieval."""
    rng = np.random.default_rng(0)
    chosen = gallery(context.streams, context.concepts.train_tasks, rng)
    if not chosen:
        return Report('retrieve', (), ('These streams have no clips to retrieve.',))
    meanings = [moment.item.meaning for moment in chosen]
    streams = [moment.stream.name for moment in chosen]
    wanted = sorted(set(meanings))
    sentences = context.concepts.sentences
    texts = context.language.encode([str(rng.choice(sentences(m, 'heldout'))) for m in wanted])
    rows: list[tuple[Row, ...]] = []
    for who, clips in answers_by_source(context, chosen, rng).items():
        found, wide = (
            hits(texts, wanted, clips, meanings),
            hits(texts, wanted, clips, meanings, WIDE),
        )
        named = hits(clips, meanings, texts, wanted)
        target = TARGET if who == 'ours' else None
        rows.append(
            (
                row_of(who, 'text to clip R@1', Outcomes(tuple(wanted), tuple(found)), target),
                Row(who, f'text to clip R@{WIDE}', mean(wide)),
                Row(who, 'clip to text R@1', mean(named, clusters=streams)),
            )
        )
    fewer = '' if len(chosen) == CLIPS else f' ({CLIPS} are not available)'
    note = f'{len(chosen)} clips{fewer} of {len(wanted)} concepts; queries: held-out paraphrases.'
    return Report('retrieve', tuple(row for kind in zip(*rows) for row in kind), (note,))


def answers_by_source(
    context: Context, chosen: Sequence[AnnotationMoment], rng: np.random.Generator
) -> dict[str, Vectors]:
    """Return clip embeddings (N, D) of the model, the oracle and the vision-blind baseline."""
    ours = caption(context, chosen, 'clips to find')
    blind = np.repeat(blind_answers(context.vision, [PROMPT]), len(chosen), axis=0)
    blind += 1e-6 * rng.standard_normal(blind.shape).astype(np.float32)  # break ties at random
    oracle = [context.centroid(m.item.meaning) for m in chosen]
    return {'ours': ours, 'oracle': np.stack(oracle), 'blind': blind}


def gallery(
    streams: Sequence[Stream], tasks: Sequence[str], rng: np.random.Generator, count: int = CLIPS
) -> list[AnnotationMoment]:
    """Return at most `count` random clips of `tasks`, round-robin over (task, phase)."""
    found = moments(streams, tasks, PHASES)
    shuffled = [found[i] for i in rng.permutation(len(found))]
    return in_turn(evenly(shuffled), lambda m: (m.item.task, m.item.phase))[:count]


def hits(
    queries: Vectors,
    wanted: Sequence[str],
    items: Vectors,
    meanings: Sequence[str],
    count: int = 1,
) -> list[float]:
    """Return, per query, 1 if its concept is among those of the `count` nearest items, else 0.

    Args:
        queries: Embeddings (Q, D).
        wanted: Concept of each query.
        items: Embeddings (N, D).
        meanings: Concept of each item.
        count: Number of nearest items.
    """
    nearest = np.argsort(-(queries @ items.T), axis=1, kind='stable')[:, :count]
    return [
        float(any(meanings[n] == meaning for n in row))
        for row, meaning in zip(nearest, wanted, strict=True)
    ]
