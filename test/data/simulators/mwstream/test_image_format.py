# SPDX-License-Identifier: Apache-2.0
"""Effects of a recording pipeline on a square rendering."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.data.simulators.mwstream.image_format import ASPECTS, ImageFormat, draw_format


def rendering(size: int = 96) -> np.ndarray:
    """Return a gray image with a red dot at 3/4 of the width and 5/8 of the height."""
    image = np.full((size, size, 3), 90, np.uint8)
    y, x = round(size * 5 / 8), round(size * 3 / 4)
    image[y - 3 : y + 4, x - 3 : x + 4] = (250, 20, 20)
    return image


def red_at(image: np.ndarray) -> np.ndarray:
    """Return the center of the red area, in fractions of the image (x, y)."""
    red = (image[..., 0].astype(int) - image[..., 1]) > 100
    assert red.any()
    rows, columns = np.nonzero(red)
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / len(image)


@pytest.mark.parametrize('aspect', list(ASPECTS))
@pytest.mark.parametrize('fit', ['crop', 'resize', 'letterbox'])
def test_place_maps_points_to_their_image_positions(aspect: str, fit: str) -> None:
    image_format = ImageFormat(aspect, fit)
    [image] = image_format.apply(rendering()[None])
    expected = image_format.place(np.array([[0.755, 0.63]]))[0]
    np.testing.assert_allclose(red_at(image), expected, atol=0.02)


def test_a_letterbox_has_black_bars_of_the_right_height() -> None:
    [image] = ImageFormat('16:9', 'letterbox').apply(rendering(160)[None])
    dark = (image.max(axis=(1, 2)) == 0).sum()
    assert dark == pytest.approx(160 * (1 - 9 / 16), abs=2)


def test_resize_stretches_and_crop_does_not() -> None:
    heights = {}
    for fit in ('crop', 'resize'):
        [image] = ImageFormat('16:9', fit).apply(rendering()[None])
        red = (image[..., 0].astype(int) - image[..., 1]) > 100
        heights[fit] = red.any(axis=1).sum()
    assert heights['resize'] == pytest.approx(heights['crop'] * 16 / 9, abs=2)


def test_a_low_resolution_loses_detail_and_a_high_one_none() -> None:
    fine = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ImageFormat(resolution=512).apply(fine), fine)
    assert ImageFormat(resolution=24).apply(fine).std() < 0.5 * fine.std()


@pytest.mark.parametrize('codec', ['jpeg', 'mp4'])
def test_codecs_change_images_a_little_and_keep_their_colors(codec: str) -> None:
    image_format = ImageFormat(codec=codec, quality=80)
    found = image_format.apply(np.stack([rendering()] * 5))
    assert found.shape == (5, 96, 96, 3) and found.dtype == np.uint8
    off = np.abs(found.astype(int) - rendering()).mean()
    assert 0 < off < 8
    np.testing.assert_allclose(red_at(found[-1]), red_at(rendering()), atol=0.02)


def test_training_never_has_the_held_out_codec() -> None:
    rng = np.random.default_rng(0)
    training = {draw_format(rng, True).codec for _ in range(100)}
    evaluation = [draw_format(rng, False) for _ in range(100)]
    assert training == {'none', 'jpeg'}
    assert {image_format.codec for image_format in evaluation} == {'none', 'jpeg', 'mp4'}
    assert all(
        (image_format.codec == 'mp4') == (image_format.held_out == ('codec',))
        for image_format in evaluation
    )
