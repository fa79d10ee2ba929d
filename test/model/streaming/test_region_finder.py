# SPDX-License-Identifier: Apache-2.0
"""Region finder: regions inside the frame, exact crops, and a vision side that uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_streaming import network, save_tiny, tower

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.images import cut
from vljepa_ros.model import registry
from vljepa_ros.model.config import ModelConfig, RegionFinderConfig, XEncoderConfig
from vljepa_ros.model.streaming.region_finder import RegionFinder, within

SIDE, SIZE = 64, 32


def finder(seed: int = 0) -> RegionFinder:
    torch.manual_seed(seed)
    return RegionFinder(RegionFinderConfig(SIDE, (8, 8)), SIZE).eval()


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model with a region finder that crops every frame."""
    plain = save_tiny(tmp_path_factory.mktemp('plain'))
    config = registry.read_config(plain)
    assert isinstance(config, ModelConfig)
    net = registry.VLJEPA(replace(config, region_finder=RegionFinderConfig(SIDE, (8, 8))))
    old = registry.VLJEPA(config)
    registry.load_weights(old, plain / registry.WEIGHTS, tuple(dict(old.named_children())))
    net.load_state_dict({**net.state_dict(), **old.state_dict()})
    assert net.region_finder is not None
    with torch.no_grad():
        net.region_finder.head[-1].bias.copy_(torch.tensor([0.3, -0.2, -1.0, -0.6]))
    out = tmp_path_factory.mktemp('with_finder')
    registry.save(net, out, torch.float32)
    return out


def test_cut_of_aligned_region_equals_array_slice() -> None:
    [image] = frames(1)
    np.testing.assert_array_equal(cut(image, (0.25, 0.5, 0.5, 0.5), 32), image[32:, 16:48])


def test_cut_of_whole_frame_at_half_size_averages_blocks_of_four() -> None:
    [image] = frames(1)
    mean = image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(cut(image, (0, 0, 1, 1), 32).astype(float) - mean).max() <= 1.0


@pytest.mark.parametrize(
    ('center', 'sides', 'expected'),
    [
        ((0.5, 0.5), (0.5, 0.4), (0.25, 0.3, 0.5, 0.4)),
        ((0.1, 0.95), (0.4, 0.4), (0.0, 0.6, 0.4, 0.4)),  # moved into the frame
        ((-3.0, 7.0), (1.8, 1.2), (0.0, 0.0, 1.0, 1.0)),  # larger than the frame
        ((0.5, 0.5), (0.01, 0.5), (0.35, 0.25, 0.3, 0.5)),  # not below the least side
    ],
)
def test_region_is_limited_to_the_frame(
    center: tuple[float, float], sides: tuple[float, float], expected: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(within(np.array(center), np.array(sides), 0.3), expected)


def test_found_regions_lie_inside_the_frame() -> None:
    for seed in range(5):
        with torch.no_grad():
            found = finder(seed)
            found.head[-1].bias.normal_(0.0, 10.0)
        x, y, width, height = found.find(frames(1, seed)[0])
        assert min(x, y) >= 0 and x + width <= 1 + 1e-9 and y + height <= 1 + 1e-9
        assert min(width, height) >= 0.3


def test_tubelet_is_cropped_to_the_region_of_its_newest_frame() -> None:
    found, (old, new) = finder(), frames(2)
    cropped = found.crop([old, new])
    assert [image.shape for image in cropped] == [(SIZE, SIZE, 3)] * 2
    np.testing.assert_array_equal(cropped[0], cut(old, found.find(new), SIZE))


def test_model_with_finder_equals_model_on_cropped_frames(folder: Path) -> None:
    """The finder only selects what the other parts receive."""
    model = registry.load(str(folder), device='cpu')
    config = registry.read_config(folder)
    assert isinstance(config, ModelConfig) and model.vision is not None
    assert model.facts.image_size == config.image_size == SIDE
    net = network(model.vision)
    plain = registry.assemble(net, tower(model.vision), 'plain').vision
    assert plain is not None
    plain.facts = replace(plain.facts, image_size=SIZE)
    state, other = model.vision.new_state(), plain.new_state()
    both = frames(8)
    sides = set()
    for start in range(0, 8, 2):
        model.vision.step(state, both[start : start + 2])
        region = net.region_finder.find(both[start + 1])
        sides.add(round(float(region[2]), 6))
        crops = [cut(image, region, SIZE) for image in both[start : start + 2]]
        found, net.region_finder = net.region_finder, None
        plain.step(other, crops)
        net.region_finder = found
    assert max(sides) < 1.0  # the frames were cropped
    prompts = ['what is happening?']
    np.testing.assert_array_equal(
        model.vision.predict(state, prompts), plain.predict(other, prompts)
    )


def test_description_for_the_detector_uses_the_same_crops(folder: Path) -> None:
    model = registry.load(str(folder), device='cpu')
    assert model.vision is not None
    net, clip = network(model.vision), frames(4)
    described = model.vision.describe(np.stack(clip))
    crops = [image for i in (0, 2) for image in net.region_finder.crop(clip[i : i + 2])]
    net.region_finder = None
    np.testing.assert_array_equal(described, model.vision.describe(np.stack(crops)))


@pytest.mark.parametrize(
    ('size', 'stem', 'key'),
    [(16, (8,), 'region_finder.image_size'), (-1, (8,), 'region_finder.image_size'),
     (64, (), 'region_finder.stem'), (64, (8,) * 7, 'region_finder')],
)  # fmt: skip
def test_invalid_configuration_is_named(size: int, stem: tuple[int, ...], key: str) -> None:
    with pytest.raises(ModelError, match=key):
        ModelConfig(
            'tiny',
            x_encoder=XEncoderConfig(image_size=32, stem=(8, 16)),
            region_finder=RegionFinderConfig(size, stem),
        )
