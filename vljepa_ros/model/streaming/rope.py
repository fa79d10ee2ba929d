# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding over time (Su et al., arXiv 2104.09864), on half of each head.

Positions are counted in tubelets. Attention depends on differences of positions only, so in a
stream, the newest query is not rotated, and a key that is `a` tubelets older is rotated by -a.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, index: Tensor, base: float = 100.0) -> Tensor:
    """Apply the rotary embedding to the first half of the last dimension of queries or keys.

    Args:
        x: Queries or keys (..., E).
        index: Positions in tubelets; broadcasts to (...).
        base: Base of the geometric series of frequencies.

    Returns:
        The rotated queries or keys, of the shape and dtype of x.
    """
    quarter = x.shape[-1] // 4
    exponent = torch.arange(quarter, device=x.device, dtype=torch.float32) / quarter
    angle = index.to(torch.float32).unsqueeze(-1) * base**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x[..., :quarter], x[..., quarter : 2 * quarter], x[..., 2 * quarter :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
