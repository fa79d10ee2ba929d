# SPDX-License-Identifier: Apache-2.0
"""Files of embeddings, written by `vljepa embed` or by other programs.

`vljepa embed` writes an .npz file with `vector` (T, D) float, of any norm except 0, and `stamp`
(T,), strictly increasing seconds from the recording's start. Other programs may instead write
`vectors` and `stamps_ns`, in integer nanoseconds of any clock. `model_id` and `prompt` are
optional.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError, ModelMismatchError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.vectors import unit

VECTORS, STAMPS, MODEL_ID, PROMPT = 'vectors', 'stamps_ns', 'model_id', 'prompt'
EMBED_VECTORS, EMBED_STAMPS = 'vector', 'stamp'  # names used by `vljepa embed`
DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
SECOND_NS = 1_000_000_000
LONGEST_S = 1e9  # maximum length of a recording in seconds: thirty years


@dataclass(frozen=True)
class Embeddings:
    """Unit vectors (T, D) and their strictly increasing stamps (T,) in nanoseconds.

    Stamps count from the recording's start, or from the first vector if the file has `stamps_ns`.
    `prompt` is the prompt that the vectors answer, or '' if the file does not name it.
    """

    vectors: NDArray[np.float32]
    stamps_ns: NDArray[np.int64]
    prompt: str = ''


def read_embeddings(path: Path, facts: ModelFacts, least: int = 2) -> Embeddings:
    """Read a file of embeddings and check that they belong to the model.

    Args:
        path: An .npz file (see the module's docstring).
        facts: Constants of the model, whose id and embedding dimension must match.
        least: Minimum number of embeddings.

    Raises:
        InputError: the file is missing or damaged, or an array is missing or invalid.
        ModelMismatchError: the file has the id of another model.
    """
    arrays = _load(path)
    own = EMBED_VECTORS in arrays and EMBED_STAMPS in arrays
    names = (EMBED_VECTORS, EMBED_STAMPS) if own else (VECTORS, STAMPS)
    for name in names:
        if name not in arrays:
            raise InputError(f"{path}: no array '{name}' (arrays: {', '.join(arrays) or 'none'})")
    vectors, stamps = (arrays[name] for name in names)
    _check_vectors(f"{path}: '{names[0]}'", vectors, facts.embedding_dim, least)
    if own:
        stamps = _nanoseconds(f"{path}: '{names[1]}'", stamps)
    _check_stamps(f"{path}: '{names[1]}'", stamps, len(vectors))
    found = str(arrays.get(MODEL_ID, facts.model_id))
    if found != facts.model_id:
        raise ModelMismatchError(
            f"{path} contains vectors of model '{found}', not of '{facts.model_id}'"
        )
    rising = stamps.astype(np.int64)
    from_start = rising if own else rising - rising[:1]
    prompt = str(arrays.get(PROMPT, ''))
    return Embeddings(unit(vectors.astype(np.float32)), from_start, prompt)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (*DAMAGE, TypeError, AttributeError) as error:
        reason = getattr(error, 'strerror', None) or 'not a .npz file of arrays'
        raise InputError(f'{path}: {reason}') from error


def _check_vectors(what: str, vectors: NDArray[Any], dim: int, least: int) -> None:
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or len(vectors) < least:
        raise InputError(
            f'{what} has shape {vectors.shape} and dtype {vectors.dtype}, but must be a float '
            f'array (T, D) with T >= {least}'
        )
    if vectors.shape[1] != dim:
        raise InputError(
            f'{what} has vectors of {vectors.shape[1]} values, but the model has vectors of '
            f'{dim}: select the model that computed them with --model'
        )
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise InputError(f'{what} contains a value that is not finite, or a vector of zeros')


def _nanoseconds(what: str, seconds: NDArray[Any]) -> NDArray[np.int64]:
    if not np.issubdtype(seconds.dtype, np.number) or np.iscomplexobj(seconds):
        raise InputError(f'{what} has dtype {seconds.dtype}, but must contain seconds as numbers')
    if not (np.abs(seconds) < LONGEST_S).all():  # also rejects nan
        raise InputError(f'{what} contains a time that is not finite or not below {LONGEST_S:g} s')
    return np.round(seconds.astype(np.float64) * SECOND_NS).astype(np.int64)


def _check_stamps(what: str, stamps_ns: NDArray[Any], count: int) -> None:
    if stamps_ns.shape != (count,) or not np.issubdtype(stamps_ns.dtype, np.integer):
        raise InputError(
            f'{what} has shape {stamps_ns.shape} and dtype {stamps_ns.dtype}, '
            f'but must be ({count},) and int64'
        )
    if (np.diff(stamps_ns.astype(np.int64)) <= 0).any():
        raise InputError(f'{what} does not increase strictly')
