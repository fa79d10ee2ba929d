# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training in several processes, each of which uses a share of the streams.

On a CPU, one single-threaded process per core is much faster than one process with a thread per
core, because the layers are small. With `torchrun`, the processes can also run on several machines
or GPUs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from vljepa_ros.core.cpu_cores import cores

T = TypeVar('T')

# Page faults of new memory dominate a training step on a CPU. These options make glibc use huge
# pages and keep freed memory.
ALLOCATOR = (
    'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000'
    ':glibc.malloc.trim_threshold=40000000000:glibc.malloc.top_pad=67108864'
)


def started() -> bool:
    """Return whether this process was started by torchrun."""
    return 'WORLD_SIZE' in os.environ


def is_first() -> bool:
    """Return whether this is the process with rank 0, which logs and writes files."""
    return int(os.environ.get('RANK', 0)) == 0


def default_processes() -> int:
    """Return the number of GPUs or, if there is none, of CPU cores that this process may use."""
    return torch.cuda.device_count() or cores()


def launch(arguments: Sequence[str], processes: int) -> None:
    """Replace this process by torchrun, which runs `vljepa` in several processes.

    The function does not return.

    Args:
        arguments: Command-line arguments of `vljepa`.
        processes: Number of processes to start.
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
    """Rank of this process, and collective operations with the other processes of the run.

    A process that was not started by torchrun is the only one of its run.
    """

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
        """Return this process's share of `items`: every `count`-th item from index `rank` on."""
        return list(items[self.rank :: self.count])

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of `parameters` by their mean over all processes.

        DistributedDataParallel is not suitable: it averages the gradients of one `forward` call of
        one module, which must use the same parameters in every process. Here, a loss calls several
        methods of several modules, once per group of texts of similar length, and its terms depend
        on the labels of the clips in this process.
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
        """Overwrite `tensors` in all processes with their values in the first process."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait until all processes have called this method."""
        if self.count > 1:
            distributed.barrier()
