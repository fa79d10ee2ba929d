# SPDX-License-Identifier: Apache-2.0
"""What is known of a model's predictions: files of embeddings, some with what was to be said.

Shapes: N predictions, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.embeddings import SECOND_NS, Embeddings, read_embeddings
from vljepa_ros.data.told import AnnotationFile, read_annotations
from vljepa_ros.errors import InputError
from vljepa_ros.stream.interfaces import ModelFacts
from vljepa_ros.stream.vectors import unit
from vljepa_ros.train.words.config import Predictions

NEAR_NS = SECOND_NS  # a question's embedding is at most so far from its time


@dataclass(frozen=True)
class Pair:
    """A prediction (D,) and what was to be said of it; `asked`: it answers a question."""

    vector: NDArray[np.float32]
    text: str
    asked: bool


@dataclass(frozen=True)
class Known:
    """All predictions, by whether they answer a question (0: no, 1: yes), and the pairs."""

    vectors: tuple[NDArray[np.float32], NDArray[np.float32]]
    pairs: tuple[Pair, ...]


def read_predictions(files: Sequence[Predictions], facts: ModelFacts) -> Known:
    """Read all files. Raises InputError that names the file, and the line of an annotation."""
    vectors: tuple[list[NDArray[np.float32]], ...] = ([], [])
    pairs: list[Pair] = []
    for file in files:
        found = read_embeddings(Path(file.embeddings), facts, least=1)
        vectors[file.asked].append(found.vectors)
        if file.annotations:
            told = read_annotations(Path(file.annotations))
            pairs += [Pair(v, text, file.asked) for v, text in _pairs(found, told, file.asked)]
    empty = np.zeros((0, facts.embedding_dim), np.float32)
    plain, asked = (np.concatenate([empty, *rows]) for rows in vectors)
    return Known((plain, asked), tuple(pairs))


def _pairs(
    found: Embeddings, told: AnnotationFile, asked: bool
) -> Iterator[tuple[NDArray[np.float32], str]]:
    """The mean prediction of each stretch; or that of each question's moment."""
    stamps_ns, prompt = found.stamps_ns, found.prompt
    if not asked:
        for said in told.said:
            start_ns, end_ns = (round(at * SECOND_NS) for at in (said.start, said.end))
            inside = (stamps_ns > start_ns) & (stamps_ns <= end_ns)
            if inside.any():
                yield unit(found.vectors[inside].mean(axis=0)), said.text
        return
    if not prompt:
        raise InputError(f'{told.path}: the embeddings do not say which prompt they answer')
    for question in told.asked:
        if question.prompt != prompt:
            continue
        distance = np.abs(stamps_ns - round(question.start * SECOND_NS))
        if distance.min() <= NEAR_NS:
            yield found.vectors[int(distance.argmin())], question.answer
