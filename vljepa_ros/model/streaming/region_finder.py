# SPDX-License-Identifier: Apache-2.0
"""Region finder: locates the robot's workspace in a frame and crops frames to this region.

The X-Encoder is trained on images in which objects have a limited range of sizes. Cameras show the
workspace anywhere in their image and at any size, and cropping removes most of this variation. The
region depends on the newest frame of a tubelet only, so streaming remains exact.

Regions are (x, y, width, height): the top left corner and the sides, as fractions of the frame.

Shapes: M images, S image side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vljepa_ros.core.images import cut, fit
from vljepa_ros.core.types import Image
from vljepa_ros.model.config import RegionFinderConfig

REDUCED, HIDDEN = 24, 128  # channels of the flattened feature map; hidden units of the head
# The output (center x, center y, log width, log height) is learned as OFFSET + SCALE * output.
OFFSET, SCALE = (0.5, 0.5, -0.2, -0.2), (0.3, 0.3, 0.5, 0.5)


class RegionFinder(nn.Module):
    """Convolutional network that estimates center and size of the workspace in a frame."""

    def __init__(self, config: RegionFinderConfig, image_size: int) -> None:
        """Create a finder whose input images and crops have sides of `image_size` pixels."""
        super().__init__()
        self.config, self.image_size = config, image_size
        layers: list[nn.Module] = []
        widths = (3, *config.stem)
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
        last = config.stem[-1]
        layers += [nn.Conv2d(last, last, 3, padding=1), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        self.reduce = nn.Conv2d(last, REDUCED, 1)
        side = -(-image_size // 2 ** len(config.stem))
        self.head = nn.Sequential(
            nn.Linear(REDUCED * side**2 + 2 * last, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Estimate center and size of the workspace in each of M images.

        Args:
            images: (M, S, S, 3) uint8 RGB.

        Returns:
            Center x, center y, log width and log height (M, 4), in fractions of the image.
        """
        weight = self.reduce.weight
        x = images.movedim(-1, 1).to(weight.dtype)
        x = self.layers((x / 255.0 - 0.5) / 0.25)
        read = [self.reduce(x).flatten(1), x.mean(dim=(2, 3)), x.amax(dim=(2, 3))]
        found = self.head(torch.cat(read, dim=1))
        return found * found.new_tensor(SCALE) + found.new_tensor(OFFSET)

    @torch.inference_mode()
    def find(self, image: Image) -> NDArray[np.float64]:
        """Return the region (4,) of the workspace in a frame (S, S, 3) uint8 RGB of any size."""
        small = torch.from_numpy(np.array(fit(image, self.image_size))).to(
            self.reduce.weight.device
        )
        found = self(small[None])[0].double().cpu().numpy()
        return within(found[:2], np.exp(found[2:]), self.config.smallest)

    def crop(self, images: Sequence[Image]) -> list[Image]:
        """Crop all frames of a tubelet to the workspace region of the newest frame.

        Returns:
            Images (S, S, 3) uint8 RGB, where S is the X-Encoder's image size.
        """
        region = self.find(images[-1])
        return [cut(image, region, self.image_size) for image in images]


def within(
    centers: NDArray[np.float64], sides: NDArray[np.float64], smallest: float
) -> NDArray[np.float64]:
    """Convert centers and sizes to regions (..., 4) that lie within the frame.

    Args:
        centers: Center x and y (..., 2), in fractions of the frame; may lie outside of the frame.
        sides: Width and height (..., 2), in fractions of the frame; limited to `smallest`..1.
        smallest: Minimum width and height.
    """
    limited = np.clip(sides, smallest, 1.0)
    corners = np.clip(centers - limited / 2.0, 0.0, 1.0 - limited)
    return np.concatenate([corners, limited], axis=-1)
