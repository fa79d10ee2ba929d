# SPDX-License-Identifier: Apache-2.0
"""What all stages share: weight decay, the learning rate's course, mixed precision, the GPU."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    return [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]


def rate(peak: float, done: int, warmup: int, steps: int, decay_from: float = 0.0) -> float:
    """Learning rate: linear warm-up, constant until the share `decay_from` of the steps, then a
    cosine down to 2% of the peak.
    """
    if done < warmup:
        return peak * (done + 1) / warmup
    first = max(warmup, round(decay_from * steps))
    share = min(max(done - first, 0) / max(steps - first, 1), 1.0)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """bfloat16 where it is safe and `wanted`, and faster here."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=wanted and bfloat16_is_faster(device.type)
    )


def prepare_gpu() -> None:
    """Set for the whole process what training on a GPU gains from.

    cuDNN's attention makes a plan for every new shape, and those of clips and prompts are new in
    every step: without it a step takes 0.12 s instead of 0.25 s on an H200.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_float32_matmul_precision('high')  # TF32, where bfloat16 is not used


@functools.cache
def bfloat16_is_faster(device_type: str) -> bool:
    """On a GPU; on a CPU it is measured, as the instructions alone do not tell.

    With AVX-512 BF16 a product of matrices takes less time on an AMD EPYC, and more on an Intel
    Xeon without AMX.
    """
    if device_type != 'cpu':
        return True
    x, weight = torch.randn(2048, 256), torch.randn(1024, 256)

    def seconds(dtype: torch.dtype) -> float:
        a, b = x.to(dtype), weight.to(dtype)
        found = []
        for _ in range(5):
            began_s = time.process_time()
            functional.linear(a, b)
            found.append(time.process_time() - began_s)
        return min(found)

    return seconds(torch.bfloat16) < seconds(torch.float32)
