# SPDX-License-Identifier: Apache-2.0
"""Check of a hop's frames, used by the vision side of every kind of model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image


def check_hop(images: Sequence[Image], facts: ModelFacts) -> None:
    """Raise InputError unless these are `tubelet_frames` images of (S, S, 3) uint8."""
    size = facts.image_size
    for image in images:
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise InputError(
                f'an image has shape {image.shape} and dtype {image.dtype}, but the model expects '
                f'({size}, {size}, 3) and uint8'
            )
    if len(images) != facts.tubelet_frames:
        raise InputError(
            f'a hop of {len(images)} frames does not match the model, which expects hops of '
            f'{facts.tubelet_frames}'
        )
