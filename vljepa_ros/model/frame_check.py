# SPDX-License-Identifier: Apache-2.0
"""Validation of the input frames of one hop, shared by the vision sides of all models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image


def check_hop(images: Sequence[Image], facts: ModelFacts) -> None:
    """Check that the number, shape and dtype of a hop's images match the model.

    Args:
        images: Frames of one hop, which must be (S, S, 3) uint8 with S = `facts.image_size`.
        facts: Constants of the model; `facts.tubelet_frames` is the required number of images.

    Raises:
        InputError: The images do not match the model.
    """
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
