# SPDX-License-Identifier: Apache-2.0
"""Evaluation of the Y-Decoder on combinations that no training sentence contains.

The embedding of each held-out sentence is decoded and compared with the training sentence whose
embedding is nearest (retrieval). References are all training paraphrases of the held-out concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.protocols import Language
from vljepa_ros.data.simulators.mwstream.meanings import is_right, meanings, sentences
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS, held_out_color, meaning_of
from vljepa_ros.evaluate.cider import Cider


@dataclass(frozen=True)
class Decoding:
    """Mean CIDEr-D and fraction of correct sentences, of the decoder and of retrieval."""

    sentences: int
    decoder_cider: float
    nearest_cider: float
    decoder_right: float
    nearest_right: float


def held_out_meanings() -> list[str]:
    """Return acts and results of the training tasks in the color absent from training."""
    return [
        meaning_of(task, phase, held_out_color(task))
        for task in TRAIN_TASKS
        for phase in ('act', 'done')
    ]


def decode_held_out(language: Language) -> Decoding:
    """Decode every held-out sentence."""
    items = [(m, text) for m in held_out_meanings() for text in sentences(m, 'train')]
    known = sorted(
        {
            text
            for m in meanings(TRAIN_TASKS, held_out_colors=False)
            for text in sentences(m, 'train')
        }
        - {text for _, text in items}
    )
    vectors = language.encode([text for _, text in items])
    nearest = np.argmax(vectors @ language.encode(known).T, axis=1)
    cider = Cider([sentences(m, 'train') for m in meanings(TRAIN_TASKS)])
    said = [decoded.text for decoded in language.decode(vectors)]
    recalled = [known[i] for i in nearest]

    def mean_cider(texts: list[str]) -> float:
        return float(
            np.mean(
                [
                    cider.score(text, sentences(m, 'train'))
                    for text, (m, _) in zip(texts, items, strict=True)
                ]
            )
        )

    def share_right(texts: list[str]) -> float:
        return float(
            np.mean([is_right(m, text) for text, (m, _) in zip(texts, items, strict=True)])
        )

    return Decoding(
        len(items),
        mean_cider(said),
        mean_cider(recalled),
        share_right(said),
        share_right(recalled),
    )
