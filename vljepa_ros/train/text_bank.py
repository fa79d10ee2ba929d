# SPDX-License-Identifier: Apache-2.0
"""Texts of a training run: paraphrases by concept, and a cache of the text tower's token states.

In contrastive losses, paraphrases of the same concept are positives. A concept that is true as
well ("the drawer is open" for "the red drawer is open") is neither a positive nor a negative.
Negated sentences are concepts of their own (`not:act:drawer-open:red`), which only stage 1 uses.

Shapes: N texts, L tokens, Dt width of the text tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.data.concepts import NOT, RECORDINGS, ConceptSet
from vljepa_ros.data.english import negated
from vljepa_ros.data.format import Stream
from vljepa_ros.data.questions import ANSWERS, answer_concept, answers
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train.data_parallelism import Workers

BATCH = 256
LENGTHS = 4  # number of groups of texts of similar length on a CPU
FIRST_ROWS = 1 << 16  # initial capacity of the cache, in tokens


class TextBank:
    """Cache of the text tower's token states, by text, in float16.

    The states of all texts are concatenated in one growing tensor on the tower's device. Texts
    have at most `limit` tokens.
    """

    def __init__(self, tower: TextTower, limit: int = 64) -> None:
        self._tower, self._limit = tower, limit
        self.device = tower.device
        self._places: dict[str, tuple[int, int]] = {}  # first row and number of rows
        self._used = 0
        with torch.inference_mode(False):  # the tensor is written with and without inference mode
            self._rows = torch.empty(
                FIRST_ROWS, tower.bert.config.hidden_size, dtype=torch.float16, device=self.device
            )

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token states (N, L, Dt) float32 and the mask (N, L) of real tokens.

        L is the length of the longest text. The states of padding tokens are arbitrary.
        """
        self.add(texts)
        first, count = np.array([self._places[text] for text in texts]).T[..., None]
        at = np.arange(count.max())
        rows, mask = (
            torch.from_numpy(x).to(self.device)
            for x in (first + np.minimum(at, count - 1), at < count)
        )
        return self._rows[rows].float(), mask

    def group_by_length(self, texts: Sequence[str]) -> list[NDArray[np.intp]]:
        """Return the indices of `texts` in groups of similar length, which need little padding.

        On a CPU, padding takes as much time as real tokens. On a GPU, there is a single group.
        """
        self.add(texts)
        order = np.argsort([self._places[text][1] for text in texts], kind='stable')
        groups = LENGTHS if self.device.type == 'cpu' else 1
        return np.array_split(order, min(groups, len(texts)))

    def add(self, texts: Sequence[str]) -> None:
        """Compute and store the token states of those texts that are not in the cache yet."""
        missing = sorted({text for text in texts if text not in self._places}, key=len)
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            states, mask = self._tower.states(part, self._limit)
            self._append(part, mask.sum(dim=1).tolist(), states[mask].half())

    def _append(self, texts: Sequence[str], counts: Sequence[int], rows: Tensor) -> None:
        needed = self._used + len(rows)
        with torch.inference_mode(False):
            if needed > len(self._rows):
                grown = self._rows.new_empty(max(needed, 2 * len(self._rows)), rows.shape[1])
                grown[: self._used] = self._rows[: self._used]
                self._rows = grown
            self._rows[self._used : needed] = rows
        for text, count in zip(texts, counts, strict=True):
            self._places[text] = (self._used, count)
            self._used += count

    def prepare(self, texts: Sequence[str], path: Path, workers: Workers) -> None:
        """Add texts to the cache, from a file that all processes and resumed runs share.

        If the file does not exist, the first process computes the token states and writes it.

        Args:
            texts: Texts to add.
            path: File of token states.
            workers: Processes of the run.
        """
        if workers.first and not path.is_file():
            self.add(texts)
            part = path.with_suffix('.part')
            counts = [count for _, count in self._places.values()]
            torch.save((list(self._places), counts, self._rows[: self._used].cpu()), part)
            part.replace(path)
        workers.barrier()
        if not self._places:
            self._append(*torch.load(path, weights_only=True))
        self.add(texts)  # the stored file may lack texts that were added since


def restore_order(parts: Sequence[Tensor], rows: Sequence[NDArray[np.intp]]) -> Tensor:
    """Concatenate tensors and sort the rows of the result by their original index.

    Args:
        parts: Tensors (n, ...) with equal shapes except for n.
        rows: Original indices (n,) of the rows of each tensor.
    """
    back = torch.from_numpy(np.argsort(np.concatenate(rows)))
    return torch.cat(list(parts))[back.to(parts[0].device)]


def drop_tokens(mask: Tensor, dropped: float) -> Tensor:
    """Drop random tokens, except [CLS], from a mask of real tokens.

    Args:
        mask: (N, L), true for real tokens; the first token is [CLS].
        dropped: Probability that a token is dropped.

    Returns:
        The mask (N, L) without the dropped tokens.
    """
    remaining = torch.rand(mask.shape, device=mask.device) >= dropped
    remaining[:, 0] = True
    return mask & remaining


def noisy_token_states(
    states: Tensor, mask: Tensor, noise: float, dropped: float
) -> tuple[Tensor, Tensor]:
    """Add Gaussian noise to token states and drop random tokens.

    Args:
        states: Token states (N, L, Dt).
        mask: (N, L), true for real tokens.
        noise: Standard deviation of the noise, relative to that of the states of real tokens.
        dropped: Fraction of the tokens to drop.

    Returns:
        The noisy states (N, L, Dt), and the mask (N, L) without the dropped tokens.
    """
    if noise:
        states = states + noise * masked_std(states, mask) * torch.randn_like(states)
    return states, drop_tokens(mask, dropped)


def masked_std(states: Tensor, mask: Tensor) -> Tensor:
    """Return the standard deviation, a scalar tensor, of the states of real tokens.

    Args:
        states: Token states (N, L, Dt).
        mask: (N, L), true for real tokens.
    """
    real = mask[..., None]  # multiplication instead of indexing avoids a GPU synchronization
    count = mask.sum() * states.shape[-1]
    mean = (states * real).sum() / count
    return (((states - mean).square() * real).sum() / count).sqrt()


class ConceptTexts:
    """Training concepts with their paraphrases, and groups of concepts that are easily confused.

    `sentences`: paraphrases by concept id, for the Y-Encoder and as targets of the Y-Decoder.
    `read`: further paraphrases by concept id, for the Y-Encoder only. `names`: concept ids;
    `number`: index of each in `names`.
    """

    def __init__(
        self,
        annotated: Mapping[str, tuple[str, ...]] | None = None,
        concepts: ConceptSet = RECORDINGS,
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Collect the concepts.

        Args:
            annotated: Annotated texts of recordings by concept id.
            concepts: Concept set of the streams' simulator (default: no simulator).
            tasks: Simulator tasks whose concepts are collected (default: all training tasks).
        """
        self.concepts = concepts
        texts = self.concepts.training_texts(self.concepts.train_tasks if tasks is None else tasks)
        self.sentences = dict(texts.targets)
        self.read = dict(texts.read)
        self._deniable = texts.deniable
        self.sentences.update({concept: answers(concept) for concept in ANSWERS})
        self.sentences.update(annotated or {})
        self.names = list(self.sentences)
        self.number = {name: i for i, name in enumerate(self.names)}
        self._alike: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            for key in _slots(name):
                self._alike.setdefault(key, []).append(name)

    def also_holds(self, names: Sequence[str]) -> Tensor:
        """Return for each pair of `names` whether both may be true at the same time.

        The result is a bool matrix (len(names), len(names)); its diagonal is false.
        """
        row = {name: i for i, name in enumerate(names)}
        holds = torch.zeros(len(names), len(names), dtype=torch.bool)
        for name in names:
            for other in self.concepts.compatible(name):
                if other != name and other in row:
                    holds[row[name], row[other]] = holds[row[other], row[name]] = True
        return holds

    def negated(self, meaning: str) -> str:
        """Return the id of the concept's negation; '' if its sentences cannot be negated."""
        return f'{NOT}{meaning}' if meaning in self._deniable else ''

    def draw_paraphrase(self, meaning: str, rng: np.random.Generator) -> str:
        """Draw a training paraphrase of a concept or of a negated concept.

        It comes from `read` with a probability of at most 0.5, otherwise from `sentences`.
        """
        if meaning.startswith(NOT):
            ways = [w for t in self.sentences[meaning.removeprefix(NOT)] if (w := negated(t))]
            pool = ways[int(rng.integers(len(ways)))]
            return pool[int(rng.integers(len(pool)))]
        own, read = self.sentences[meaning], self.read.get(meaning, ())
        pool = read if read and rng.random() < min(0.5, len(read) / len(own)) else own
        return pool[int(rng.integers(len(pool)))]

    def negatives(self, present: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
        """Draw concepts as negatives; about half are hard negatives.

        A hard negative differs from one of the present concepts in a single slot (object, color or
        phase). The other negatives are drawn uniformly.

        Args:
            present: Ids of concepts that must not be drawn.
            count: Maximum number of concepts to draw.
            rng: Random generator.
        """
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
    """Return keys of a concept id; concepts with a common key differ in at most one slot."""
    parts = meaning.split(':')
    if len(parts) < 3:  # `rest`, `dark`, `yes`, `no`, colors, and annotated texts
        return [(parts[0] if len(parts) == 2 else 'bare',)]
    if parts[0] == 'is':
        return [('is', parts[1])]
    return [('phase', *parts[1:]), (parts[0], 'subject', parts[2]), (*parts[:2], 'colour')]


def annotated_concepts(streams: Sequence[Stream]) -> dict[str, tuple[str, ...]]:
    """Return the annotated texts of recordings by concept id.

    They include answers and candidates of annotated questions, except yes, no and "cannot tell".
    """
    found: dict[str, dict[str, None]] = {}
    for stream in streams:
        for item in stream.annotations:
            if item.phase == 'told':
                found.setdefault(item.meaning, {})[item.text] = None
        for question in stream.questions():
            for text in (question.answer, *question.candidates):
                found.setdefault(answer_concept(text), {})[text] = None
    return {name: tuple(texts) for name, texts in found.items() if ':' in name}
