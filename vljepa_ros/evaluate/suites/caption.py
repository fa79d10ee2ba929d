# SPDX-License-Identifier: Apache-2.0
"""Suite caption: the middle of every annotation in words.

The share of right sentences (see `data.mwstream.meanings.is_right`) and CIDEr-D against five fixed
wordings, every (task, phase) weighing the same. Beside the Y-Decoder stands the training sentence
whose embedding is nearest; combinations of task and colour that training never had are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream.meanings import is_right, meanings, sentences
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS, held_out_colour
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.suites.classify import PROMPT
from vljepa_ros.evaluate.views import CONTEXT_S, answers, blind_answers, middle

REFERENCES, MARK = 5, 0.80


@dataclass(frozen=True)
class Said:
    """What one speaker says about all items."""

    who: str
    texts: Sequence[str]


def caption(context: Context) -> Report:
    """Right sentences and CIDEr of the decoder, of recall, of the oracle and of the blind."""
    items, vectors = [], []
    for stream in context.watched('captions'):
        for item in stream.annotations:
            if middle(item) >= CONTEXT_S and item.task in TRAIN_TASKS:
                items.append(item)
                vectors.append(answers(context.eyes, stream, middle(item), [PROMPT])[0])
    seen = np.stack(vectors)
    oracle = np.stack([context.centre(item.meaning) for item in items])
    blind = _decode(context, blind_answers(context.eyes, [PROMPT])) * len(items)
    speakers = [
        Said('ours', _decode(context, seen)),
        Said('nearest sentence', _recall(context, seen)),
        Said('oracle', _decode(context, oracle)),
        Said('blind', blind),
    ]
    cider = Cider([sentences(a.meaning, 'train')[:REFERENCES] for a in items])
    rows = []
    for said in speakers:
        right = [is_right(a.meaning, text) for a, text in zip(items, said.texts, strict=True)]
        score = [
            cider.score(text, sentences(a.meaning, 'train')[:REFERENCES])
            for a, text in zip(items, said.texts, strict=True)
        ]
        mark = MARK if said.who == 'ours' else None
        rows.append(Row(said.who, 'right sentences', _macro(right, items), mark))
        rows.append(Row(said.who, 'CIDEr-D', _macro(score, items)))
        fresh = [i for i, item in enumerate(items) if is_new(item)]
        new = [items[i] for i in fresh]
        rows.append(
            Row(said.who, 'right, new combinations', _macro([right[i] for i in fresh], new))
        )
        rows.append(
            Row(said.who, 'CIDEr-D, new combinations', _macro([score[i] for i in fresh], new))
        )
    return Report('caption', tuple(rows), ('Macro-averaged over (task, phase).',))


def is_new(item: Annotation) -> bool:
    """Whether training never had this object in this colour."""
    return item.phase in ('act', 'done') and item.colour == held_out_colour(item.task)


def _decode(context: Context, vectors: np.ndarray) -> list[str]:
    return [decoded.text for decoded in context.language.decode(vectors)]


def _recall(context: Context, vectors: np.ndarray) -> list[str]:
    known = [
        t for m in meanings(TRAIN_TASKS, held_out_colours=False) for t in sentences(m, 'train')
    ]
    texts = list(dict.fromkeys(known))
    return [texts[i] for i in np.argmax(vectors @ context.language.encode(texts).T, axis=1)]


def _macro(values: Sequence[float], items: Sequence[Annotation]) -> Mean:
    return mean(np.array(values, float), [(item.task, item.phase) for item in items])
