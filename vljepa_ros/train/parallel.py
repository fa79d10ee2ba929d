# SPDX-License-Identifier: Apache-2.0
"""Training in several processes, which share the streams and the clips of every step.

On a CPU, one single-threaded process per core is much faster than one process with a thread per
core, because the layers are small. `torchrun` can also start processes on several machines or
GPUs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar('T')

# Page faults of new memory dominate a training step on a CPU. These options make glibc use huge
# pages and keep freed memory.
ALLOCATOR = (
    'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000'
    ':glibc.malloc.trim_threshold=40000000000:glibc.malloc.top_pad=67108864'
)


def started() -> bool:
    """Return whether torchrun started this process."""
    return 'WORLD_SIZE' in os.environ


def is_first() -> bool:
    """Return whether this is the process with rank 0, which logs and writes files."""
    return int(os.environ.get('RANK', 0)) == 0


def default_processes() -> int:
    """Return the number of GPUs or, without a GPU, of CPU cores that this process may use."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def launch(arguments: Sequence[str], processes: int) -> None:
    """Replace this process by torchrun, which runs `vljepa ARGUMENTS` in several processes.

    This function does not return.

    Args:
        arguments: Arguments of the command `vljepa`.
        processes: Number of processes.
    """
    package = Path(__file__).resolve().parents[2]
    path = [str(package), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = os.environ | {
        'OMP_NUM_THREADS': '1' if not torch.cuda.is_available() else '4',
        'GLIBC_TUNABLES': ALLOCATOR,
        'PYTHONPATH': os.pathsep.join(path),
    }
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
    command = [sys.executable, *torchrun, '-m', 'vljepa_ros.cli.main', *arguments]
    os.execve(sys.executable, command, environment)


class Workers:
    """Rank of this process and communication with the others; single if not run by torchrun."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.count = (
            int(os.environ.get('RANK', 0)),
            int(os.environ.get('WORLD_SIZE', 1)),
        )
        self.device = device
        if device.type == 'cuda' and 'LOCAL_RANK' in os.environ:
            self.device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
            torch.cuda.set_device(self.device)
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def own_items(self, items: Sequence[T]) -> list[T]:
        """Return the items of this process."""
        return list(items[self.rank :: self.count])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes.

        DistributedDataParallel does not fit: it averages gradients of one call of one module's
        `forward`, with the same parameters used in every process. A loss here calls several
        methods of several modules, each once per group of texts of similar length, and the terms
        of a loss depend on the labels of the process's own clips.
        """
        if self.count == 1:
            return
        found = [p for p in parameters if p.requires_grad]
        for p in found:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in found if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        distributed.all_reduce(flat)
        flat /= self.count
        for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(part.view_as(g))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of the first process to all processes."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait until all processes have called this method."""
        if self.count > 1:
            distributed.barrier()
