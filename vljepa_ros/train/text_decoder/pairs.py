# SPDX-License-Identifier: Apache-2.0
"""Reading of a model's predicted embeddings from files, with target texts from annotation files.

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
class PredictionPair:
    """A predicted embedding (D,) and its target text.

    `asked`: whether it answers a question; otherwise it answers a standing prompt.
    """

    vector: NDArray[np.float32]
    text: str
    asked: bool


@dataclass(frozen=True)
class KnownPredictions:
    """Predicted embeddings of a model.

    `vectors`: all answers to standing prompts (N, D), and all answers to questions (N, D).
    `pairs`: the predictions that have a target text.
    """

    vectors: tuple[NDArray[np.float32], NDArray[np.float32]]
    pairs: tuple[PredictionPair, ...] = ()


def read_predictions(files: Sequence[Predictions], language: TextSpace) -> KnownPredictions:
    """Read predicted embeddings and their target texts.

    Args:
        files: Files of embeddings, with annotation files.
        language: Text side of the model, which the embeddings and the texts must fit.

    Raises:
        InputError: A file or an annotation is invalid; the message names the file and the line.
    """
    vectors: tuple[list[NDArray[np.float32]], ...] = ([], [])
    pairs: list[PredictionPair] = []
    for file in files:
        found = read_embeddings(Path(file.embeddings), language.facts, least=1)
        vectors[file.asked].append(found.vectors)
        if file.annotations:
            pairs += _read_pairs(file, found, language)
    empty = np.zeros((0, language.facts.embedding_dim), np.float32)
    captions, answers = (np.concatenate([empty, *rows]) for rows in vectors)
    return KnownPredictions((captions, answers), tuple(pairs))


def _read_pairs(file: Predictions, found: Embeddings, language: TextSpace) -> list[PredictionPair]:
    annotations = read_annotations(Path(file.annotations))
    lines: Sequence[Line] = annotations.questions if file.asked else annotations.texts
    cameras = sorted({line.source for line in lines} - {''})
    if len(cameras) > 1 and not file.camera:
        raise InputError(
            f'{annotations.path} has annotations of several cameras ({", ".join(cameras)}): set '
            f'`camera` to one of them'
        )
    camera = file.camera or ''.join(cameras)
    pairs_of = _answers if file.asked else _texts
    pairs = []
    for line, vector, text in pairs_of(found, annotations, camera):
        try:
            language.check(text)
        except InputError as error:
            annotations.fail(line, str(error))
        pairs.append(PredictionPair(vector, text, file.asked))
    log.info('%s: %d of %d lines match predictions', annotations.path, len(pairs), len(lines))
    if not pairs:
        what = f"answers '{found.prompt}'" if file.asked else 'has a text'
        raise InputError(
            f'{annotations.path}: no line {what} at a time for which {file.embeddings} has '
            f'predictions'
        )
    return pairs


def _texts(
    found: Embeddings, annotations: AnnotationFile, camera: str
) -> Iterator[tuple[Line, NDArray[np.float32], str]]:
    """Yield (line, pooled prediction, text) for each annotated text of a camera.

    The predictions within the time span of the text are pooled to one unit vector. Texts without
    predictions in their time span are left out.
    """
    for line in annotations.texts:
        start_ns, end_ns = (round(at * SECOND_NS) for at in (line.start, line.end))
        inside = (found.stamps_ns > start_ns) & (found.stamps_ns <= end_ns)
        if inside.any() and line.is_about(camera):
            yield line, pooled(found.vectors[inside]), line.text


def _answers(
    found: Embeddings, annotations: AnnotationFile, camera: str
) -> Iterator[tuple[Line, NDArray[np.float32], str]]:
    """Yield (line, prediction, answer) for each annotated question of a camera.

    Only questions equal to the prompt of the predictions are used. The prediction is the nearest
    in time, at most `NEAR_NS` from the question.
    """
    if not found.prompt:
        raise InputError(
            f'{annotations.path}: questions need embeddings with a prompt: create the file of '
            f'embeddings with `vljepa embed`'
        )
    for question in annotations.questions:
        if question.prompt.casefold() != found.prompt.casefold():
            continue
        distance = np.abs(found.stamps_ns - round(question.start * SECOND_NS))
        if question.is_about(camera) and distance.min() <= NEAR_NS:
            yield question, found.vectors[int(distance.argmin())], question.answer
