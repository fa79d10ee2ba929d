# SPDX-License-Identifier: Apache-2.0
"""Training in several processes: each has its share of the streams and of every step's clips.

On a CPU, one process a core with one thread each is far faster than one process with a thread a
core: the layers are small. `torchrun` starts the processes on several machines or GPUs as well.
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

# Fresh memory is what a step on a CPU costs most: huge pages, and nothing given back. (glibc)
ALLOCATOR = (
    'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000'
    ':glibc.malloc.trim_threshold=40000000000:glibc.malloc.top_pad=67108864'
)


def started() -> bool:
    """Whether torchrun started this process."""
    return 'WORLD_SIZE' in os.environ


def is_first() -> bool:
    """Whether this is the process that speaks for the run."""
    return int(os.environ.get('RANK', 0)) == 0


def default_processes() -> int:
    """One a GPU, or one a CPU core that this process may use."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def launch(arguments: Sequence[str], processes: int) -> None:
    """Become `processes` workers that run `vljepa ARGUMENTS` (by torchrun). Does not return."""
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
    """This process's place among those of the run; alone where torchrun did not start it."""

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
        """Whether this one writes files and logs."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of `items`."""
        return list(items[self.rank :: self.count])

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
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

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()
