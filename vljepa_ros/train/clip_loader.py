# SPDX-License-Identifier: Apache-2.0
"""Data loader for training the vision side; worker processes can prepare batches in advance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vljepa_ros.data.format import Stream
from vljepa_ros.train.clips import Batch, ClipSampler, Crops
from vljepa_ros.train.config import VisionTraining

AHEAD = 4  # batches that each process prepares in advance


@dataclass
class StepBatches(IterableDataset[Batch]):
    """Dataset of random training batches, one per step, from step `first` on.

    The worker processes of a `DataLoader` share the steps. `crops`: see `ClipSampler`.
    """

    streams: list[Stream]
    tubelet_frames: int
    seed: int
    stage: VisionTraining
    first: int = 0
    crops: Crops | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the steps that this worker process prepares."""
        info = get_worker_info()
        number, count = (info.id, info.num_workers) if info else (0, 1)
        if info:  # one thread per process, because the processes run in parallel
            torch.set_num_threads(1)
            cv2.setNumThreads(0)
        seed = self.seed + 10_000 * number
        sampler = ClipSampler(self.streams, self.tubelet_frames, seed, self.crops)
        for step in range(self.first + number, self.stage.steps, count):
            yield sampler.batch(self.stage.clips_at(step))

    def loaded(self, processes: int) -> Iterable[Batch]:
        """Return the batches of all steps in the order of the steps.

        Args:
            processes: Number of worker processes that prepare batches in advance; 0: this process
                prepares them on demand.
        """
        if processes < 1:
            return self
        return DataLoader(
            self, batch_size=None, num_workers=processes, prefetch_factor=AHEAD, collate_fn=_as_is
        )


def _as_is(batch: Any) -> Any:
    return batch
