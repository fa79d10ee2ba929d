# SPDX-License-Identifier: Apache-2.0
"""Embeddings of anybody's own, for the suite selective.

FILE.npz: `vectors` (T, D) float, of any length but 0; `stamps_ns` (T,) integers that rise. It may
hold `model_id`, as `vljepa embed` writes it. What is said of them is an annotation file, as in
`data.told`, in seconds from the first stamp.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.told import Said, read_annotations
from vljepa_ros.errors import InputError, ModelMismatchError
from vljepa_ros.evaluate.hops import Hops
from vljepa_ros.stream.interfaces import ModelFacts
from vljepa_ros.stream.perceiver import unit

VECTORS, STAMPS, MODEL_ID = 'vectors', 'stamps_ns', 'model_id'
DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def read_embeddings(path: Path, facts: ModelFacts) -> Hops:
    """The embeddings, of unit norm, with stamps from the first one on.

    Raises:
        InputError: the file is missing or damaged, or an array is missing or of the wrong kind.
        ModelMismatchError: they are another model's.
    """
    arrays = _load(path)
    for name in (VECTORS, STAMPS):
        if name not in arrays:
            raise InputError(f"{path}: no array '{name}' (it has: {', '.join(arrays) or 'none'})")
    vectors, stamps_ns = arrays[VECTORS], arrays[STAMPS]
    _check_vectors(path, vectors, facts.embedding_dim)
    _check_stamps(path, stamps_ns, len(vectors))
    found = str(arrays.get(MODEL_ID, facts.model_id))
    if found != facts.model_id:
        raise ModelMismatchError(f"{path}: vectors of model '{found}', not of '{facts.model_id}'")
    rising = stamps_ns.astype(np.int64)
    return Hops(unit(vectors.astype(np.float32)), rising - rising[0])


def read_said(path: Path) -> tuple[Said, ...]:
    """What is said of them, in the order of time. Raises InputError that names the line."""
    said = read_annotations(path).said
    if not said:
        raise InputError(f'{path}: holds no text with a start and an end')
    return said


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (*DAMAGE, TypeError, AttributeError) as error:
        reason = getattr(error, 'strerror', None) or 'is no .npz file of arrays'
        raise InputError(f'{path}: {reason}') from error


def _check_vectors(path: Path, vectors: NDArray[Any], dim: int) -> None:
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or len(vectors) < 2:
        raise InputError(
            f"{path}: '{VECTORS}' {vectors.shape} {vectors.dtype} is not (T, D) float, T >= 2"
        )
    if vectors.shape[1] != dim:
        raise InputError(
            f"{path}: '{VECTORS}' have {vectors.shape[1]} values each, the model decodes {dim}: "
            'give the --model that made them'
        )
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise InputError(f"{path}: '{VECTORS}' hold a value that is not finite, or only zeros")


def _check_stamps(path: Path, stamps_ns: NDArray[Any], count: int) -> None:
    if stamps_ns.shape != (count,) or not np.issubdtype(stamps_ns.dtype, np.integer):
        raise InputError(
            f"{path}: '{STAMPS}' {stamps_ns.shape} {stamps_ns.dtype} is not ({count},) int64"
        )
    if (np.diff(stamps_ns.astype(np.int64)) <= 0).any():
        raise InputError(f"{path}: '{STAMPS}' do not rise")
