# SPDX-License-Identifier: Apache-2.0
"""Selection of a torch device, and a check of its free memory before a model is loaded."""

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
    """Return the torch device named `auto`, `cpu`, `cuda` or `cuda:N`.

    `auto` selects CUDA if it is available, and the CPU otherwise.

    Raises:
        ModelError: The device is unknown or unavailable.
    """
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
                f"device '{device}' is not available: torch finds {count} CUDA devices"
            )
    return chosen


def weight_bytes(net: nn.Module, dtype: torch.dtype) -> int:
    """Return the bytes that the parameters of `net` occupy if they are stored as `dtype`.

    `net` may be on the meta device.
    """
    return sum(parameter.numel() for parameter in net.parameters()) * dtype.itemsize


def check_memory(name: str, needed: int, device: torch.device, dtype: str) -> None:
    """Log how much memory a model needs, and check that the device has it free.

    Args:
        name: Name of the model for the log and error messages.
        needed: Required memory in bytes.
        device: Device on which the model will be loaded.
        dtype: Name of the compute dtype for the log and error messages.

    Raises:
        ModelError: `device` has less free memory than `needed`.
    """
    free = free_bytes(device)
    known = 'unknown' if free is None else f'{free / GB:.1f} GB'
    needs = f'{name} needs about {needed / GB:.1f} GB on {device} as {dtype}'
    log.info('%s (free: %s)', needs, known)
    if free is not None and needed > free:
        raise ModelError(
            f'{needs}, but only {known} are free: use a smaller dtype or another device'
        )


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of `device` in bytes; None if the system does not report it.

    For a GPU that shares system memory, such as a Jetson's, MemAvailable of /proc/meminfo is
    returned, because CUDA does not count memory that the system can reclaim from its caches (CUDA
    for Tegra, "Estimating Total Allocatable Memory").
    """
    if device.type == 'cuda' and not torch.cuda.get_device_properties(device).is_integrated:
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r'^MemAvailable:\s+(\d+) kB', MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
