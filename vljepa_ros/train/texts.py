# SPDX-License-Identifier: Apache-2.0
"""All texts of a training run with their token states, computed once by the frozen text tower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vljepa_ros.data.mwstream.meanings import meanings, sentences
from vljepa_ros.data.mwstream.questions import answer_meanings, answers
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.model.text_tower import TextTower

BATCH = 256


class TextBank:
    """Token states of texts, in float16: `states(texts)` -> (B, L, Dt) float32 and mask (B, L)."""

    def __init__(self, tower: TextTower, limit: int = 64) -> None:
        self._tower, self._limit = tower, limit
        self.device = tower.device
        self._states: dict[str, Tensor] = {}

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states and mask of `texts`, padded to the longest."""
        self.add(texts)
        found = [self._states[text] for text in texts]
        length = max(len(item) for item in found)
        states = torch.zeros(len(found), length, found[0].shape[-1])
        mask = torch.zeros(len(found), length, dtype=torch.bool)
        for row, item in enumerate(found):
            states[row, : len(item)] = item.float()
            mask[row, : len(item)] = True
        return states.to(self.device), mask.to(self.device)

    def add(self, texts: Sequence[str]) -> None:
        """Compute what is not there yet."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._states]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            states, mask = self._tower.states(part, self._limit)
            for text, row, kept in zip(part, states, mask, strict=True):
                self._states[text] = row[kept].half().cpu().clone()


class Meanings:
    """The training meanings and their wordings, and which of them are easily confused."""

    def __init__(self) -> None:
        self.sentences: dict[str, tuple[str, ...]] = {
            meaning: sentences(meaning, 'train') for meaning in meanings(TRAIN_TASKS, False)
        }
        self.sentences.update({m: answers(m) for m in answer_meanings(False)})
        self.names = list(self.sentences)
        self.number = {name: i for i, name in enumerate(self.names)}
        self._alike: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            for key in _slots(name):
                self._alike.setdefault(key, []).append(name)

    def wording(self, meaning: str, rng: np.random.Generator) -> str:
        """One of a meaning's training wordings."""
        return str(rng.choice(self.sentences[meaning]))

    def negatives(self, present: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
        """`count` meanings that are not present: half differ in one slot from one that is."""
        chosen: set[str] = set()
        anchors = [m for m in present if _slots(m)]
        while len(chosen) < count:
            if anchors and rng.random() < 0.5:
                keys = _slots(str(rng.choice(anchors)))
                pool = self._alike[keys[int(rng.integers(len(keys)))]]
            else:
                pool = self.names
            chosen.add(pool[int(rng.integers(len(pool)))])
            if len(chosen) + len(present) >= len(self.names):
                break
        return sorted(chosen - set(present))


def _slots(meaning: str) -> list[tuple[str, ...]]:
    """The meaning with one slot left open, in each way."""
    parts = meaning.split(':')
    if len(parts) < 3:  # rest and dark; yes and no; the colours
        return [(parts[0] if len(parts) == 2 else 'bare',)]
    return [('phase', *parts[1:]), (parts[0], 'subject', parts[2]), (*parts[:2], 'colour')]
