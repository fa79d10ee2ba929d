# SPDX-License-Identifier: Apache-2.0
"""Known predictions of a model: files of embeddings, some with target texts.

Shapes: N predictions, D embedding_dim.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.vectors import pooled
from vljepa_ros.data.annotation_file import AnnotationFile, Line, read_annotations
from vljepa_ros.data.embeddings import SECOND_NS, Embeddings, read_embeddings
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.train.text_decoder.config import Predictions

NEAR_NS = SECOND_NS  # largest time difference between a question and its embedding

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A prediction (D,) and its target text; `asked`: it answers a question."""

    vector: NDArray[np.float32]
    text: str
    asked: bool


@dataclass(frozen=True)
class KnownPredictions:
    """Predictions of a model: all of them by kind, and those with a target text (`pairs`).

    `vectors`: answers to standing prompts, (N, D), and to questions, (N, D).
    """

    vectors: tuple[NDArray[np.float32], NDArray[np.float32]]
    pairs: tuple[Pair, ...] = ()


def read_predictions(files: Sequence[Predictions], language: TextSpace) -> KnownPredictions:
    """Read all files.

    Raises:
        InputError: A file or an annotation is invalid; the message names the file and the line.
    """
    vectors: tuple[list[NDArray[np.float32]], ...] = ([], [])
    pairs: list[Pair] = []
    for file in files:
        found = read_embeddings(Path(file.embeddings), language.facts, least=1)
        vectors[file.asked].append(found.vectors)
        if file.annotations:
            pairs += _read_pairs(file, found, language)
    empty = np.zeros((0, language.facts.embedding_dim), np.float32)
    plain, asked = (np.concatenate([empty, *rows]) for rows in vectors)
    return KnownPredictions((plain, asked), tuple(pairs))


def _read_pairs(file: Predictions, found: Embeddings, language: TextSpace) -> list[Pair]:
    told = read_annotations(Path(file.annotations))
    lines: Sequence[Line] = told.questions if file.asked else told.texts
    cameras = sorted({line.source for line in lines} - {''})
    if len(cameras) > 1 and not file.camera:
        raise InputError(
            f'{told.path}: contains annotations of {", ".join(cameras)}: set `camera` to one of '
            f'them'
        )
    camera = file.camera or ''.join(cameras)
    pairs_of = _answers if file.asked else _stretches
    pairs = []
    for line, vector, text in pairs_of(found, told, camera):
        try:
            language.check(text)
        except InputError as error:
            told.fail(line, str(error))
        pairs.append(Pair(vector, text, file.asked))
    log.info('%s: %d of %d lines have predictions', told.path, len(pairs), len(lines))
    if not pairs:
        what = f"answers '{found.prompt}'" if file.asked else 'has a text'
        raise InputError(
            f'{told.path}: no line {what} at a time for which {file.embeddings} has predictions'
        )
    return pairs


def _stretches(
    found: Embeddings, told: AnnotationFile, camera: str
) -> Iterator[tuple[Line, NDArray[np.float32], str]]:
    """Yield each text with the mean prediction of its span."""
    for said in told.texts:
        start_ns, end_ns = (round(at * SECOND_NS) for at in (said.start, said.end))
        inside = (found.stamps_ns > start_ns) & (found.stamps_ns <= end_ns)
        if inside.any() and said.is_about(camera):
            yield said, pooled(found.vectors[inside]), said.text


def _answers(
    found: Embeddings, told: AnnotationFile, camera: str
) -> Iterator[tuple[Line, NDArray[np.float32], str]]:
    """Yield each answer to the prompt with the prediction nearest in time."""
    if not found.prompt:
        raise InputError(
            f'{told.path}: the file of embeddings has no prompt: create it with `vljepa embed`'
        )
    for question in told.questions:
        if question.prompt.casefold() != found.prompt.casefold():
            continue
        distance = np.abs(found.stamps_ns - round(question.start * SECOND_NS))
        if question.is_about(camera) and distance.min() <= NEAR_NS:
            yield question, found.vectors[int(distance.argmin())], question.answer
