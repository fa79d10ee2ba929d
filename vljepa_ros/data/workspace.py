# SPDX-License-Identifier: Apache-2.0
"""Position and size of the workspace in the frames of a stream, for region finders.

The workspace is (center x, center y, width, height) in fractions of the frame. It may reach beyond
the frame. Simulated streams have it in their state, under the names of `WORKSPACE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORKSPACE = ('workspace_x', 'workspace_y', 'workspace_width', 'workspace_height')


def workspaces(state: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return the workspace in every frame, (frames, 4), from a stream's state.

    The result is None if the state does not contain it.
    """
    if not all(name in state for name in WORKSPACE):
        return None
    return np.stack([state[name].astype(np.float64) for name in WORKSPACE], axis=1)
