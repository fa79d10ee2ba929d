# SPDX-License-Identifier: Apache-2.0
"""Suite retrieve: a held-out wording finds a clip that shows its meaning, among 500.

Clips are middles of reaches and acts, drawn evenly over (task, phase); what is relevant is told by
meaning ids. Every meaning in the gallery is asked for once.
"""

from __future__ import annotations

import numpy as np

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.suites.classify import PROMPT
from vljepa_ros.evaluate.views import CONTEXT_S, Vectors, answers, blind_answers, middle

CLIPS, PHASES, MARK = 500, ('reach', 'act'), 0.80


def retrieve(context: Context) -> Report:
    """R@1 of texts looking for clips, and of clips looking for texts."""
    rng = np.random.default_rng(0)
    chosen = gallery(context, rng)
    meanings = [item.meaning for _, item in chosen]
    wanted = sorted(set(meanings))
    texts = context.language.encode([str(rng.choice(sentences(m, 'heldout'))) for m in wanted])
    clips = np.stack([answers(context.eyes, s, middle(item), [PROMPT])[0] for s, item in chosen])
    oracle = np.stack([context.centre(meaning) for meaning in meanings])
    blind = np.repeat(blind_answers(context.eyes, [PROMPT]), len(chosen), axis=0)
    blind += 1e-6 * rng.standard_normal(blind.shape).astype(np.float32)  # no order among equals
    rows = [
        Row('ours', 'text to clip R@1', first(texts, wanted, clips, meanings), MARK),
        Row('oracle', 'text to clip R@1', first(texts, wanted, oracle, meanings)),
        Row('blind', 'text to clip R@1', first(texts, wanted, blind, meanings)),
        Row('ours', 'clip to text R@1', first(clips, meanings, texts, wanted)),
        Row('oracle', 'clip to text R@1', first(oracle, meanings, texts, wanted)),
        Row('blind', 'clip to text R@1', first(blind, meanings, texts, wanted)),
    ]
    note = f'{len(chosen)} clips of {len(wanted)} meanings, held-out wording.'
    return Report('retrieve', tuple(rows), (note,))


def gallery(context: Context, rng: np.random.Generator) -> list[tuple[Stream, Annotation]]:
    """At most `CLIPS` clips: one of each (task, phase) in turn."""
    places: dict[tuple[str, str], list[tuple[Stream, Annotation]]] = {}
    for stream in context.streams:
        for item in stream.annotations:
            seen = item.phase in PHASES and middle(item) >= CONTEXT_S
            if seen and item.task in TRAIN_TASKS:
                places.setdefault((item.task, item.phase), []).append((stream, item))
    for found in places.values():
        rng.shuffle(found)
    chosen: list[tuple[Stream, Annotation]] = []
    while len(chosen) < CLIPS and any(places.values()):
        chosen += [found.pop() for found in places.values() if found]
    return chosen[:CLIPS]


def first(queries: Vectors, wanted: list[str], items: Vectors, meanings: list[str]) -> Mean:
    """Share of queries whose nearest item has the meaning that is wanted."""
    nearest = np.argmax(queries @ items.T, axis=1)
    right = [meanings[n] == meaning for n, meaning in zip(nearest, wanted, strict=True)]
    return mean(np.array(right, float))
