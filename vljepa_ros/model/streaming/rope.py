# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding over time (Su et al., arXiv 2104.09864), on half of each head.

Time is counted in tubelets. Only differences matter: a key that is `a` tubelets older than the
query is rotated by -a against an unrotated query, so the result does not depend on the length of
the stream.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, index: Tensor, base: float = 100.0) -> Tensor:
    """Rotate the first half of the last dimension of x by `index` (broadcast to x.shape[:-1]).

    Args:
        x: (..., E).
        index: Position in tubelets; broadcasts to (...).
        base: Base of the geometric series of frequencies.
    """
    quarter = x.shape[-1] // 4
    exponent = torch.arange(quarter, device=x.device, dtype=torch.float32) / quarter
    angle = index.to(torch.float32).unsqueeze(-1) * base**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x[..., :quarter], x[..., quarter : 2 * quarter], x[..., 2 * quarter :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
