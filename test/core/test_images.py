# SPDX-License-Identifier: Apache-2.0
"""Image encodings with hand-written expectations, and error messages for damaged images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import (
    WHOLE,
    check_compressed,
    check_crop,
    crop,
    decode_compressed,
    decode_raw,
    fit,
    rotate,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)


def padded(rows: np.ndarray, padding: int) -> tuple[int, bytes]:
    flat = rows.reshape(len(rows), -1)
    wide = np.concatenate([flat, np.full((len(rows), padding), 77, np.uint8)], axis=1)
    return wide.shape[1], wide.tobytes()


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[..., ::-1]),
        ('8UC3', RGB[..., ::-1]),
        ('rgba8', np.concatenate([RGB, RGB[..., :1]], axis=2)),
        ('bgra8', np.concatenate([RGB[..., ::-1], RGB[..., :1]], axis=2)),
    ],
)
def test_color_encodings_with_and_without_row_padding(
    encoding: str, pixels: np.ndarray, padding: int
) -> None:
    step, data = padded(pixels, padding)
    np.testing.assert_array_equal(decode_raw(encoding, 6, 4, step, False, data), RGB)


def test_grey_encodings_fill_three_channels() -> None:
    grey = RGB[..., 0]
    step, data = padded(grey, 3)
    found = decode_raw('mono8', 6, 4, step, False, data)
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('big', [True, False])
def test_mono16_keeps_the_high_byte_of_either_endianness(big: bool) -> None:
    values = RNG.integers(0, 65536, (4, 6)).astype('>u2' if big else '<u2')
    found = decode_raw('mono16', 6, 4, 12, big, values.tobytes())
    np.testing.assert_array_equal(found[..., 1], (values.astype(int) >> 8))


@pytest.mark.parametrize(
    ('encoding', 'order'),
    [
        ('yuv422', 'uyvy'),
        ('uyvy', 'uyvy'),
        ('yuv422_yuy2', 'yuyv'),
        ('yuyv', 'yuyv'),
    ],
)
def test_yuv422_by_the_formula_of_bt601(encoding: str, order: str) -> None:
    luma, u, v = RNG.integers(60, 180, (2, 4)), RNG.integers(100, 150, (2, 2)), None
    v = RNG.integers(100, 150, (2, 2))
    packed = np.zeros((2, 8), np.uint8)
    places = {'uyvy': (1, 0, 3, 2), 'yuyv': (0, 1, 2, 3)}[order]
    for at, values in zip(places, (luma[:, ::2], u, luma[:, 1::2], v), strict=True):
        packed[:, at::4] = values
    found = decode_raw(encoding, 4, 2, 8, False, packed.tobytes()).astype(float)
    y = 1.164 * (luma - 16.0)
    cb, cr = (np.repeat(c, 2, axis=1) - 128.0 for c in (u, v))
    expected = np.stack([y + 1.596 * cr, y - 0.391 * cb - 0.813 * cr, y + 2.018 * cb], axis=2)
    np.testing.assert_allclose(found, np.clip(expected, 0, 255), atol=2)


def test_bayer_patterns_are_named_by_their_first_row() -> None:
    for encoding, place in (
        ('bayer_rggb8', (0, 0)),
        ('bayer_bggr8', (1, 1)),
        ('bayer_grbg8', (0, 1)),
        ('bayer_gbrg8', (1, 0)),
    ):
        mosaic = np.zeros((8, 8), np.uint8)
        mosaic[place[0] :: 2, place[1] :: 2] = 200  # only the red cells are lit
        inner = decode_raw(encoding, 8, 8, 8, False, mosaic.tobytes())[2:-2, 2:-2]
        assert inner[..., 0].mean() > 150 and inner[..., 2].max() == 0, encoding


@pytest.mark.parametrize(
    ('change', 'token'),
    [
        ({'encoding': '32FC1'}, "unknown encoding '32FC1'"),
        ({'step': 10}, 'step (10 bytes) is smaller than a row of 6 rgb8 pixels (18 bytes)'),
        ({'data': b'123'}, 'data has 3 bytes, but height (4) x step (18) is 72'),
        ({'data': bytes(200)}, 'data has 200 bytes'),
        ({'width': 0}, 'image of 0x4 pixels'),
        ({'width': 2**31, 'step': 2**33}, 'pixels'),
        ({'encoding': 'yuyv', 'width': 5, 'step': 12, 'data': bytes(48)}, 'even width'),
    ],
)
def test_inconsistent_values_are_reported(change: dict, token: str) -> None:
    good = {
        'encoding': 'rgb8',
        'width': 6,
        'height': 4,
        'step': 18,
        'is_bigendian': False,
        'data': RGB.tobytes(),
    }
    with pytest.raises(InputError) as caught:
        decode_raw(**{**good, **change})
    assert token in str(caught.value) and '\n' not in str(caught.value)


def test_jpeg_and_png() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24, 0] = 255  # red on the left
    for suffix, loss in (('.jpg', 12), ('.png', 0)):
        data = cv2.imencode(suffix, image[..., ::-1])[1].tobytes()
        found = decode_compressed(suffix[1:], data)
        assert np.abs(found[:, :20].astype(int) - image[:, :20]).max() <= loss


@pytest.mark.parametrize('kept', [0, 2, 100, 0.5, 0.95])
def test_a_truncated_jpeg_is_an_error(kept: float) -> None:
    image = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode('.jpg', image)[1].tobytes()
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    with pytest.raises(InputError, match='compressed'):
        decode_compressed('jpeg', cut)


@pytest.mark.parametrize('kept', [4, 0.5, 0.95])
def test_a_truncated_png_is_an_error(kept: float) -> None:
    data = cv2.imencode('.png', RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))[1].tobytes()
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    with pytest.raises(InputError, match='truncated'):
        check_compressed('png', cut)


def test_data_without_a_jpeg_or_png_signature_is_rejected() -> None:
    with pytest.raises(InputError, match=r'JPEG.*PNG'):
        check_compressed('rgb8; jpeg compressed bgr8', b'no image')
    check_compressed('webp', b'RIFF')  # the decoder checks its validity


def test_depth_images_are_refused() -> None:
    with pytest.raises(InputError, match='depth'):
        decode_compressed('16UC1; compressedDepth png', b'12345')


def test_rotation_is_clockwise() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 9  # top left goes to top right
    assert rotate(image, 90)[0, 1, 0] == 9 and rotate(image, 90).shape == (3, 2, 3)
    assert rotate(image, 180)[1, 2, 0] == 9
    assert rotate(image, 270)[2, 0, 0] == 9
    with pytest.raises(InputError, match='45'):
        rotate(image, 45)


def test_fit_crops_the_center_square() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert (fit(image, 5) == 200).all() and fit(image, 5).shape == (5, 5, 3)
    np.testing.assert_array_equal(fit(RGB[:4, :4], 4), RGB[:4, :4])


def test_crops_are_fractions_of_the_image() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(crop(image, (0.25, 0.5, 0.5, 0.5)), image[3:6, 2:6])
    assert crop(image, WHOLE) is image
    assert check_crop((0.95, 0, 0.05, 0.05)) == (0.95, 0.0, 0.05, 0.05)
    np.testing.assert_array_equal(crop(image, (0.99, 0.99, 0.01, 0.01)), image[5:, 7:])


@pytest.mark.parametrize(
    'part',
    [
        (0.5, 0, 0.6, 1),
        (0, 0.5, 1, 0.6),
        (-0.1, 0, 1, 1),
        (0, 0, 0, 1),
        (0, 0, 0.001, 0.001),
        (0.5, 0.5, 0.049, 0.5),
        (0, 0, 1, float('nan')),
        (0, 0, 1),
        (0, 0, 1, 1, 1),
    ],
)
def test_a_crop_that_is_tiny_or_outside_the_image_is_refused(part: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match='crop'):
        check_crop(part)
