# SPDX-License-Identifier: Apache-2.0
"""Training helpers: weight-decay groups, learning-rate schedule, mixed precision, GPU options."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: matrices with weight decay `decay`, all others without."""
    return [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]


def rate(peak: float, done: int, warmup: int, steps: int, decay_from: float = 0.0) -> float:
    """Return the learning rate: linear warm-up, constant phase, cosine decay to 2% of the peak.

    Args:
        peak: Learning rate of the constant phase.
        done: Number of finished steps.
        warmup: Number of warm-up steps.
        steps: Total number of steps.
        decay_from: Fraction of the steps after which the decay starts, if the warm-up is over.
    """
    if done < warmup:
        return peak * (done + 1) / warmup
    first = max(warmup, round(decay_from * steps))
    share = min(max(done - first, 0) / max(steps - first, 1), 1.0)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """Return a context manager for bfloat16 autocast.

    It is enabled if `wanted` is true and bfloat16 is faster than float32 on the device.
    """
    return torch.autocast(
        device.type, torch.bfloat16, enabled=wanted and bfloat16_is_faster(device.type)
    )


def prepare_gpu() -> None:
    """Set process-wide PyTorch options that speed up training on a GPU.

    cuDNN attention is disabled, because it creates an execution plan for every new shape, and the
    shapes of clips and prompts change in every step: without it, a step takes 0.12 s instead of
    0.25 s on an H200. TF32 is enabled.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_float32_matmul_precision('high')  # TF32 for operations that do not use bfloat16


@functools.cache
def bfloat16_is_faster(device_type: str) -> bool:
    """Return whether bfloat16 is faster than float32: assumed on a GPU, measured on a CPU.

    The instruction set of a CPU does not decide it: with AVX-512 BF16, a matrix product in
    bfloat16 is faster on an AMD EPYC, but slower on an Intel Xeon without AMX.
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
