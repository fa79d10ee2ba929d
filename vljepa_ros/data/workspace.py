# SPDX-License-Identifier: Apache-2.0
"""Position and size of a robot's workspace in the frames of a stream, to train region finders.

A workspace is (center x, center y, width, height) in fractions of the frame. It may extend beyond
the frame. Streams of Meta-World store it in the arrays `WORKSPACE` of their state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORKSPACE = ('workspace_x', 'workspace_y', 'workspace_width', 'workspace_height')


def workspaces(state: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return the workspace in every frame, (T, 4) float64, or None if `state` does not have it."""
    if not all(name in state for name in WORKSPACE):
        return None
    return np.stack([state[name].astype(np.float64) for name in WORKSPACE], axis=1)
