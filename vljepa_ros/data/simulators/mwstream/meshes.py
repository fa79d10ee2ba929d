# SPDX-License-Identifier: Apache-2.0
"""Simplification of a MuJoCo model's meshes, because software rendering has a cost per vertex.

Only rendering changes: the vertices in each grid cell are merged, and faces that become degenerate
or equal are removed. Collisions use the convex hulls, which remain unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def simplify_mesh(model: Any, mesh: int, cell_m: float) -> int:
    """Merge the vertices of a mesh in each grid cell and return the number of remaining faces.

    Args:
        model: MuJoCo model, which is modified.
        mesh: Id of the mesh.
        cell_m: Side of a cubic grid cell.
    """
    start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    first, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    cells = np.floor(model.mesh_vert[start : start + count] / cell_m).astype(int)
    _, chosen, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    merged = chosen[inverse.ravel()][model.mesh_face[first : first + faces]]
    a, b, c = merged.T
    kept = np.flatnonzero((a != b) & (b != c) & (a != c))
    _, unique = np.unique(np.sort(merged[kept], axis=1), axis=0, return_index=True)
    kept = kept[np.sort(unique)]
    end = first + len(kept)
    model.mesh_face[first:end] = merged[kept]
    for name in ('mesh_facenormal', 'mesh_facetexcoord'):
        rows = getattr(model, name)
        rows[first:end] = rows[first : first + faces][kept]
    model.mesh_facenum[mesh] = len(kept)
    return len(kept)
