# SPDX-License-Identifier: Apache-2.0
"""Training of the region finder: regression of the workspace's center and size in single frames.

Frames that are dark, or whose camera is covered, are not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import WHOLE, fit
from vljepa_ros.data.format import Stream
from vljepa_ros.data.lens import is_visible
from vljepa_ros.data.workspace import workspaces
from vljepa_ros.model.streaming.region_finder import OFFSET, SCALE, RegionFinder
from vljepa_ros.train.augmentation import Augmentation
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.optimizer import groups
from vljepa_ros.train.optimizer_step import OptimizerStep, WeightAverage, cosine_schedule

KEPT_SIDE = 1.5  # side of the frames in memory, as a multiple of the side of the finder's input
KNEE = 0.3  # `beta` of the smooth L1 loss, in units of the scaled outputs


class RegionStage:
    """Training loop of a region finder; `step` runs one optimizer step."""

    def __init__(
        self, finder: RegionFinder, streams: Sequence[Stream], config: TrainConfig
    ) -> None:
        """Read the frames of all streams whose state contains the workspace.

        Args:
            finder: Region finder to train.
            streams: Training streams.
            config: Configuration of the run.

        Raises:
            InputError: No stream has a usable frame.
        """
        self.finder, self.config, self.steps = finder, config.regions, config.regions.steps
        self._size = finder.image_size
        self._frames, self._targets = self._read(streams)
        self._rng = np.random.default_rng(config.seed)
        self._device = finder.reduce.weight.device
        self.average = WeightAverage(finder, self.config.ema)
        self._optimizer = OptimizerStep(
            groups(list(finder.parameters()), self.config.weight_decay),
            self.config.learning_rate,
            cosine_schedule(self.steps, self.config.warmup_steps),
            average=self.average,
        )

    def step(self) -> float:
        """Draw a batch of augmented frames, run one optimizer step, and return the loss."""
        images, targets = zip(*(self._draw() for _ in range(self.config.batch)), strict=True)
        found = self.finder(torch.from_numpy(np.stack(images)).to(self._device))
        expected = torch.from_numpy(np.stack(targets)).to(found)
        offset, scale = found.new_tensor(OFFSET), found.new_tensor(SCALE)
        loss = functional.smooth_l1_loss(
            (found - offset) / scale, (expected - offset) / scale, beta=KNEE
        )
        self._optimizer.apply(loss)
        return float(loss.detach())

    def _draw(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Draw a random frame, augment it, and return it with its target.

        Returns:
            The frame (S, S, 3) uint8, and center x, y, log width and log height (4,) of the
            workspace in fractions of the augmented frame, as output by `RegionFinder.forward`.
        """
        index = int(self._rng.integers(len(self._frames)))
        x, y, width, height = self._targets[index]
        whole = np.array([WHOLE])
        change = Augmentation.draw(self._size, self._rng)
        image = change.apply(self._frames[index][None], whole, self._rng)[0]
        center = change.map_points(np.array([[x, y]]))[0]
        return image, np.concatenate([center, np.log([width, height]) + np.log(change.zoom)])

    def _read(
        self, streams: Sequence[Stream]
    ) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
        frames: list[NDArray[np.uint8]] = []
        targets: list[NDArray[np.float64]] = []
        for stream in streams:
            state, images = stream.state(), stream.frames()
            found = workspaces(state)
            if found is None:
                continue
            visible = is_visible(state['light'], state['cover'])
            for at in np.flatnonzero(visible)[:: self.config.every]:
                frames.append(fit(np.asarray(images[at]), round(KEPT_SIDE * self._size)))
                targets.append(found[at])
        if not frames:
            raise InputError(
                'cannot train the region finder: no stream has workspaces in state.npz; generate '
                'the data with `vljepa data mwstream`, or set model.region_finder.image_size to 0'
            )
        return frames, np.stack(targets)
