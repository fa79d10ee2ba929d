# SPDX-License-Identifier: Apache-2.0
"""Where a model runs: the device that was asked for, and whether its memory is enough."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
from torch import nn

from vljepa_ros.core.errors import ModelError

MEMINFO = Path('/proc/meminfo')
GB = 1e9

log = logging.getLogger(__name__)


def pick_device(device: str) -> torch.device:
    """auto, cpu, cuda or cuda:N -> a device that is there, or ModelError."""
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)") from error
    if chosen.type not in ('cpu', 'cuda'):
        raise ModelError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)")
    if chosen.type == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise ModelError(
                f"device '{device}' was asked for, but torch sees {count} CUDA devices"
            )
    return chosen


def weight_bytes(net: nn.Module, dtype: torch.dtype) -> int:
    """What the parameters of `net`, which may be on the meta device, take as `dtype`."""
    return sum(parameter.numel() for parameter in net.parameters()) * dtype.itemsize


def check_memory(name: str, needed: int, device: torch.device, dtype: str) -> None:
    """Log what a model needs, in bytes; ModelError where `device` has less to give."""
    free = free_bytes(device)
    known = 'unknown' if free is None else f'{free / GB:.1f} GB'
    needs = f'{name} needs about {needed / GB:.1f} GB on {device} as {dtype}'
    log.info('%s (free: %s)', needs, known)
    if free is not None and needed > free:
        raise ModelError(f'{needs}, where {known} are free')


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be had on `device`; None where the system does not say.

    A GPU that shares the machine's memory, as a Jetson's, does not count as free what the system
    would give back from its caches (CUDA for Tegra, "Estimating Total Allocatable Memory").
    """
    if device.type == 'cuda' and not torch.cuda.get_device_properties(device).is_integrated:
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r'^MemAvailable:\s+(\d+) kB', MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
