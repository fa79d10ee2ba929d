# SPDX-License-Identifier: Apache-2.0
"""Image encodings with hand-written expectations, and error messages for damaged images."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from vljepa_ros.core.errors import DepthImageError, InputError
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
        ('8UC4', np.concatenate([RGB[..., ::-1], RGB[..., :1]], axis=2)),
        ('rgba8', np.concatenate([RGB, RGB[..., :1]], axis=2)),
        ('bgra8', np.concatenate([RGB[..., ::-1], RGB[..., :1]], axis=2)),
    ],
)
def test_color_encodings_with_and_without_row_padding(
    encoding: str, pixels: np.ndarray, padding: int
) -> None:
    step, data = padded(pixels, padding)
    np.testing.assert_array_equal(decode_raw(encoding, 6, 4, step, False, data), RGB)


def test_gray_encodings_fill_three_channels() -> None:
    gray = RGB[..., 0]
    step, data = padded(gray, 3)
    found = decode_raw('mono8', 6, 4, step, False, data)
    np.testing.assert_array_equal(found, np.repeat(gray[..., None], 3, axis=2))


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


def yuv_expected(luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Convert planes of the same size by BT.601 with luma 16..235."""
    y, cb, cr = 1.164 * (luma - 16.0), u - 128.0, v - 128.0
    rgb = np.stack([y + 1.596 * cr, y - 0.391 * cb - 0.813 * cr, y + 2.018 * cb], axis=2)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'nv24'])
def test_planes_of_color_below_the_luma(encoding: str, padding: int) -> None:
    """Chroma rows of nv24 have twice the step."""
    height, width = 4, 6
    factor = 1 if encoding == 'nv24' else 2
    luma = RNG.integers(60, 180, (height, width))
    u, v = RNG.integers(100, 150, (2, height // factor, width // factor))
    pair = (v, u) if encoding == 'nv21' else (u, v)
    chroma = np.stack(pair, axis=2).reshape(height // factor, -1).astype(np.uint8)
    step, top = padded(luma.astype(np.uint8), padding)
    below = padded(chroma, padding * (2 if encoding == 'nv24' else 1))[1]
    found = decode_raw(encoding, width, height, step, False, top + below).astype(float)
    u, v = (np.repeat(np.repeat(c, factor, axis=0), factor, axis=1) for c in (u, v))
    np.testing.assert_allclose(found, yuv_expected(luma, u, v), atol=2)


@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'nv24'])
def test_missing_planes_of_color_are_named(encoding: str) -> None:
    with pytest.raises(InputError, match=r'data has 24 bytes.* height \(4\) x step \(6\)'):
        decode_raw(encoding, 6, 4, 6, False, bytes(24))


@pytest.mark.parametrize('big', [True, False])
@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb16', RGB),
        ('bgr16', RGB[..., ::-1]),
        ('rgba16', np.concatenate([RGB, RGB[..., :1]], axis=2)),
        ('bgra16', np.concatenate([RGB[..., ::-1], RGB[..., :1]], axis=2)),
        ('16UC3', RGB[..., ::-1]),
        ('16UC4', np.concatenate([RGB[..., ::-1], RGB[..., :1]], axis=2)),
    ],
)
def test_color_of_16_bits_keeps_the_high_bytes(
    encoding: str, pixels: np.ndarray, padding: int, big: bool
) -> None:
    low = RNG.integers(0, 256, pixels.shape)
    values = (pixels.astype(int) * 256 + low).astype('>u2' if big else '<u2')
    step, data = padded(values.reshape(4, -1).view(np.uint8), padding)
    np.testing.assert_array_equal(decode_raw(encoding, 6, 4, step, big, data), RGB)


@pytest.mark.parametrize('big', [True, False])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_of_16_bits_is_that_of_8_bits(pattern: str, big: bool) -> None:
    mosaic = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    wide = (mosaic.astype(int) * 256 + 99).astype('>u2' if big else '<u2')
    np.testing.assert_array_equal(
        decode_raw(f'bayer_{pattern}16', 8, 8, 16, big, wide.tobytes()),
        decode_raw(f'bayer_{pattern}8', 8, 8, 8, False, mosaic.tobytes()),
    )


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
        ({'encoding': '32FC3'}, "unknown encoding '32FC3'"),
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
        decode_compressed('png', cut)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('padding', [bytes(9000), b'\xff' * 9000, b'\xd9' * 9000])
def test_bytes_after_the_end_of_an_image_are_ignored(suffix: str, padding: bytes) -> None:
    """Some cameras send their whole buffer."""
    picture = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, picture)[1].tobytes()
    found = decode_compressed(suffix[1:], data + padding)
    np.testing.assert_array_equal(found, decode_compressed(suffix[1:], data))


def smooth(height: int = 64, width: int = 80) -> np.ndarray:
    return cv2.GaussianBlur(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8), (9, 9), 0)


@pytest.mark.parametrize('options', [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_a_complete_jpeg_without_end_mark_is_decoded(options: list[int]) -> None:
    picture = smooth()
    data = cv2.imencode('.jpg', picture, options)[1].tobytes()
    assert data.endswith(b'\xff\xd9')
    found = decode_compressed('jpeg', data[:-2])
    np.testing.assert_array_equal(found, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])
    aligned = data[:-2] + bytes(6) + data[-2:]
    np.testing.assert_array_equal(decode_compressed('jpeg', aligned), found)


@pytest.mark.parametrize('kept', [0.5, 0.95])
@pytest.mark.parametrize('tail', [b'\xff\xd9', bytes(9000) + b'\xff\xd9', bytes(9000)])
def test_a_truncated_jpeg_with_an_end_mark_is_an_error(kept: float, tail: bytes) -> None:
    """The end mark may be that of a thumbnail, or of the frame that was in the buffer before."""
    data = cv2.imencode('.jpg', smooth())[1].tobytes()
    with pytest.raises(InputError, match=r'truncated|damaged'):
        decode_compressed('jpeg', data[: int(len(data) * kept)] + tail)


@pytest.mark.parametrize('sampling', ['420', '422', '444'])
def test_jpegs_have_the_pixels_of_opencv(sampling: str) -> None:
    factor = getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}')
    for picture in (smooth(65, 83), smooth()[..., 0]):
        data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1]
        expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decode_compressed('jpeg', data), expected)


def test_a_rotation_in_exif_is_applied() -> None:
    image, stream = PIL.Image.fromarray(smooth(16, 32)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(stream, 'jpeg', exif=exif)
    assert decode_compressed('jpeg', stream.getvalue()).shape == (32, 16, 3)


def test_a_jpeg_in_cmyk_is_decoded() -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.full((16, 16, 4), 255, np.uint8), 'CMYK').save(stream, 'jpeg')
    assert decode_compressed('jpeg', stream.getvalue()).shape == (16, 16, 3)


def test_data_without_a_jpeg_or_png_signature_is_rejected() -> None:
    with pytest.raises(InputError, match=r'JPEG.*PNG'):
        check_compressed('rgb8; jpeg compressed bgr8', b'no image')
    check_compressed('webp', b'RIFF')  # the decoder checks its validity


DEPTH = RNG.integers(0, 5000, (8, 8), dtype=np.uint16)
DEPTH_PNG = cv2.imencode('.png', DEPTH)[1].tobytes()


@pytest.mark.parametrize(
    'format', ['16UC1; compressedDepth png', '16UC1; png compressed ', '32FC1; tiff', 'png', '']
)
def test_compressed_depth_is_refused(format: str) -> None:
    with pytest.raises(DepthImageError, match='depth'):
        decode_compressed(format, DEPTH_PNG)


@pytest.mark.parametrize(('suffix', 'kind'), [('.tiff', np.float32), ('.pgm', np.uint16)])
def test_depth_in_other_files_is_refused(suffix: str, kind: type) -> None:
    with pytest.raises(DepthImageError, match='depth'):
        decode_compressed(suffix[1:], cv2.imencode(suffix, DEPTH.astype(kind))[1].tobytes())


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1', '16SC1', '64FC1'])
def test_raw_depth_is_refused(encoding: str) -> None:
    with pytest.raises(DepthImageError, match=f"'{encoding}' is a depth image"):
        decode_raw(encoding, 8, 8, 16, False, DEPTH.tobytes())


def test_gray_and_color_pngs_of_16_bits_are_images() -> None:
    gray = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    data = cv2.imencode('.png', gray.astype(np.uint16) * 257)[1].tobytes()
    found = decode_compressed('mono16; png compressed ', data)
    np.testing.assert_array_equal(found, np.repeat(gray[..., None], 3, axis=2))
    data = cv2.imencode('.png', RGB[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed('png', data), RGB)


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
