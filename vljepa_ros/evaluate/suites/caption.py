# SPDX-License-Identifier: Apache-2.0
"""Suite caption: quality of the captions at the middle of every annotation.

Metrics are the fraction of correct sentences (see `ConceptSet.expresses`) and CIDEr-D against five
fixed paraphrases. Every (task, phase) has equal weight; the phases dark, covered, appear and gone
are one group each, independent of the task. The Y-Decoder is compared with the training sentence
whose embedding is nearest. Combinations of task and color that are absent from training have
separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.format import Annotation
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import decode_all
from vljepa_ros.evaluate.document_frequencies import references, scorer
from vljepa_ros.evaluate.moments import AnnotationMoment, moments
from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.probing import PROMPT
from vljepa_ros.evaluate.probing import caption as look
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.statistics import Draws, share
from vljepa_ros.evaluate.views import Vectors, blind_answers

TARGET = 0.80
TASKLESS = ('dark', 'covered', 'appear', 'gone')  # phases that are independent of the task
RIGHT, CIDER, NEW = 'correct sentences', 'CIDEr-D', ', new combinations'
OURS, NEAREST, ORACLE, BLIND = 'ours', 'nearest sentence', 'oracle', 'blind'


@dataclass(frozen=True)
class CaptionScores:
    """Metrics of the captions of the model or a baseline `who`: an array (N,) per metric."""

    who: str
    values: dict[str, np.ndarray]


def caption(context: Context) -> Report:
    """Return the caption metrics of the decoder, retrieval, oracle and vision-blind baseline."""
    concepts = context.concepts
    found = moments(context.streams, concepts.train_tasks)
    if not found:
        return Report('caption', (), ('These streams have no annotations to caption.',))
    cider, corpus = scorer(context.streams)
    texts = captions(context, found)
    scored = [score_texts(who, texts[who], found, cider, concepts) for who in texts]
    new = [i for i, moment in enumerate(found) if is_new(concepts, moment.item)]
    rows = [
        *compare(scored, found, list(range(len(found))), ''),
        *compare(scored, found, new, NEW),
        *by_phase(scored[0], found),
    ]
    notes = (
        f'{len(found)} annotations; every (task, phase) has equal weight. '
        f'Document frequencies: {corpus}.',
    )
    return Report('caption', tuple(rows), notes)


def captions(context: Context, found: Sequence[AnnotationMoment]) -> dict[str, list[str]]:
    """Return the captions of moments: decoded, retrieved, by the oracle, and vision-blind."""
    seen = look(context, found, 'captions')
    names = sorted({moment.item.meaning for moment in found})
    best = dict(zip(names, _decode(context, np.stack([context.centroid(m) for m in names]))))
    return {
        OURS: [decoded.text for decoded in decode_all(context, seen, 'words')],
        NEAREST: _retrieved(context, seen),
        ORACLE: [best[moment.item.meaning] for moment in found],
        BLIND: _decode(context, blind_answers(context.vision, [PROMPT])) * len(found),
    }


def score_texts(
    who: str,
    texts: Sequence[str],
    found: Sequence[AnnotationMoment],
    cider: Cider,
    concepts: ConceptSet,
) -> CaptionScores:
    """Return the correctness (0 or 1) and CIDEr-D of each text of the model or baseline `who`."""

    @cache
    def grade(concept: str, text: str) -> tuple[float, float]:
        score = cider.score(text, references(concepts, concept))
        return float(concepts.expresses(concept, text)), score

    values = np.array(
        [grade(moment.item.meaning, text) for moment, text in zip(found, texts, strict=True)]
    )
    return CaptionScores(who, {RIGHT: values[:, 0], CIDER: values[:, 1]})


def compare(
    scored: Sequence[CaptionScores],
    found: Sequence[AnnotationMoment],
    among: Sequence[int],
    suffix: str,
) -> list[Row]:
    """Return the metrics of the model and baselines, and the model's margin over retrieval.

    Args:
        scored: Metrics of the model and of each baseline.
        found: All moments.
        among: Indices of the moments to compare on.
        suffix: Suffix of the metrics' names; if not empty, our margin must exceed 0.
    """
    part = [found[i] for i in among]
    of = {m.who: {k: v[list(among)] for k, v in m.values.items()} for m in scored}
    best = _draws(of[ORACLE][CIDER], part)
    rows = []
    for who, values in of.items():
        least = TARGET if who == OURS and not suffix else None
        score = _draws(values[CIDER], part)
        rows += [
            row_of(who, RIGHT + suffix, _outcomes(values[RIGHT], part), least),
            Row(who, CIDER + suffix, score.interval()),
            Row(who, f"{CIDER}, share of the oracle's{suffix}", share(score, best)),
        ]
    for what in (RIGHT, CIDER):
        more = _draws(of[OURS][what] - of[NEAREST][what], part).interval()
        rows.append(Row(f'{OURS} - {NEAREST}', what + suffix, more, 0.0, above=bool(suffix)))
    return rows


def by_phase(ours: CaptionScores, found: Sequence[AnnotationMoment]) -> list[Row]:
    """Return the fraction of correct sentences of the evaluated model, one row per phase."""
    rows = []
    for phase in sorted({moment.item.phase for moment in found}):
        among = [i for i, moment in enumerate(found) if moment.item.phase == phase]
        right = _draws(ours.values[RIGHT][among], [found[i] for i in among])
        rows.append(Row(OURS, f'{RIGHT}: {phase}', right.interval()))
    return rows


def is_new(concepts: ConceptSet, item: Annotation) -> bool:
    """Return whether an annotation's combination of task and color is absent from training."""
    is_phase = item.phase in ('act', 'done')
    return is_phase and item.colour == concepts.held_out_color(item.task)


def group(item: Annotation) -> tuple[str, str]:
    """Return the group of an annotation; all groups have equal weight."""
    return ('', item.phase) if item.phase in TASKLESS else (item.task, item.phase)


def _decode(context: Context, vectors: Vectors) -> list[str]:
    return [decoded.text for decoded in context.language.decode(vectors)]


def _retrieved(context: Context, vectors: Vectors) -> list[str]:
    concepts = context.concepts
    names = concepts.concepts(held_out_colors=False)
    texts = list(dict.fromkeys(text for name in names for text in concepts.sentences(name)))
    return [texts[i] for i in np.argmax(vectors @ context.language.encode(texts).T, axis=1)]


def _outcomes(values: np.ndarray, found: Sequence[AnnotationMoment]) -> Outcomes:
    return Outcomes(
        tuple(m.id for m in found),
        tuple(values.tolist()),
        tuple(' '.join(group(m.item)) for m in found),
        tuple(m.stream.name for m in found),
    )


def _draws(values: np.ndarray, found: Sequence[AnnotationMoment]) -> Draws:
    return _outcomes(values, found).draws()
