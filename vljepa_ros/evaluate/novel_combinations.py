# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the Y-Decoder on combinations of task and color absent from training.

The embedding of each held-out sentence is decoded and compared with the training sentence whose
embedding is nearest (retrieval). References are all training paraphrases of the held-out concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.protocols import Language
from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.evaluate.cider import Cider


@dataclass(frozen=True)
class Decoding:
    """Number of held-out sentences, and metrics of decoding and of retrieval (`nearest_`).

    `*_cider`: mean CIDEr-D. `*_right`: fraction of correct sentences.
    """

    sentences: int
    decoder_cider: float
    nearest_cider: float
    decoder_right: float
    nearest_right: float


def held_out_concepts(concepts: ConceptSet) -> list[str]:
    """Return concept ids of the phases 'act' and 'done' of training tasks in held-out colors."""
    return [
        concepts.concept(task, phase, concepts.held_out_color(task))
        for task in concepts.train_tasks
        for phase in ('act', 'done')
    ]


def decode_held_out(language: Language, concepts: ConceptSet) -> Decoding:
    """Return metrics of decoding and retrieval over all sentences of the held-out concepts."""
    items = [(c, text) for c in held_out_concepts(concepts) for text in concepts.sentences(c)]
    known = sorted(
        {
            text
            for concept in concepts.concepts(held_out_colors=False)
            for text in concepts.sentences(concept)
        }
        - {text for _, text in items}
    )
    vectors = language.encode([text for _, text in items])
    nearest = np.argmax(vectors @ language.encode(known).T, axis=1)
    cider = Cider([concepts.sentences(concept) for concept in concepts.concepts()])
    decoded_texts = [decoded.text for decoded in language.decode(vectors)]
    recalled = [known[i] for i in nearest]

    def mean_cider(texts: list[str]) -> float:
        return float(
            np.mean(
                [
                    cider.score(text, concepts.sentences(concept))
                    for text, (concept, _) in zip(texts, items, strict=True)
                ]
            )
        )

    def share_right(texts: list[str]) -> float:
        return float(
            np.mean(
                [concepts.expresses(c, text) for text, (c, _) in zip(texts, items, strict=True)]
            )
        )

    return Decoding(
        len(items),
        mean_cider(decoded_texts),
        mean_cider(recalled),
        share_right(decoded_texts),
        share_right(recalled),
    )
