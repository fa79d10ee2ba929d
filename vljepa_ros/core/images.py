# SPDX-License-Identifier: Apache-2.0
"""Decode camera data to RGB images without cv_bridge: sensor_msgs encodings, JPEG and PNG.

Images are (H, W, 3) uint8, RGB. Row padding (`step`) is removed. All encodings have 8 bits per
channel and ignore `is_bigendian`, except mono16, which is reduced to its high byte.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Image

MAX_PIXELS = 100_000_000  # a larger size is treated as a damaged header
SIGNATURES = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}  # first -> last bytes (JPEG, PNG)
Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int] | NDArray[np.uint8]'
Rows = NDArray[np.uint8]  # (H, W * bytes per pixel)
Affine = NDArray[np.float64]  # (2, 3)
Crop: TypeAlias = tuple[float, float, float, float]  # x, y, width, height in fractions
WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)
LEAST_CROP = 0.05  # smallest width and height of a crop: 16 of 320 pixels


def _channels(count: int, order: tuple[int, ...]) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        return rows.reshape(len(rows), -1, count)[..., list(order)]

    return convert


def _color(code: int, count: int) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        pixels = rows.reshape(len(rows), -1, count) if count > 1 else rows
        return cv2.cvtColor(np.ascontiguousarray(pixels), code)

    return convert


# Encoding -> (bytes per pixel, conversion). ROS names a Bayer pattern after the first two pixels
# of the first row, OpenCV after the second and third pixel of the second row, so the names differ.
ENCODINGS: dict[str, tuple[int, Callable[[Rows], NDArray[np.uint8]]]] = {
    'rgb8': (3, _channels(3, (0, 1, 2))),
    'bgr8': (3, _channels(3, (2, 1, 0))),
    'rgba8': (4, _channels(4, (0, 1, 2))),
    'bgra8': (4, _channels(4, (2, 1, 0))),
    '8UC3': (3, _channels(3, (2, 1, 0))),
    'mono8': (1, _color(cv2.COLOR_GRAY2RGB, 1)),
    '8UC1': (1, _color(cv2.COLOR_GRAY2RGB, 1)),
    'mono16': (2, _color(cv2.COLOR_GRAY2RGB, 1)),
    'yuv422': (2, _color(cv2.COLOR_YUV2RGB_UYVY, 2)),
    'uyvy': (2, _color(cv2.COLOR_YUV2RGB_UYVY, 2)),
    'yuv422_yuy2': (2, _color(cv2.COLOR_YUV2RGB_YUY2, 2)),
    'yuyv': (2, _color(cv2.COLOR_YUV2RGB_YUY2, 2)),
    'bayer_rggb8': (1, _color(cv2.COLOR_BayerBG2RGB, 1)),
    'bayer_bggr8': (1, _color(cv2.COLOR_BayerRG2RGB, 1)),
    'bayer_gbrg8': (1, _color(cv2.COLOR_BayerGR2RGB, 1)),
    'bayer_grbg8': (1, _color(cv2.COLOR_BayerGB2RGB, 1)),
}


def check_raw(encoding: str, width: int, height: int, step: int, length: int) -> None:
    """Validate the fields of a sensor_msgs/Image.

    Args:
        encoding: Pixel format, a key of `ENCODINGS`.
        width: Image width in pixels.
        height: Image height in pixels.
        step: Row length in bytes, including padding.
        length: Size of the data in bytes.

    Raises:
        InputError: The fields contradict each other, or the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise InputError(f"unknown encoding '{encoding}' (known: {', '.join(ENCODINGS)})")
    size, _ = ENCODINGS[encoding]
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(
            f'image of {width}x{height} pixels: sizes must be positive, '
            f'with at most {MAX_PIXELS:,} pixels'
        )
    if step < width * size:
        raise InputError(
            f'step ({step} bytes) is smaller than a row of {width} {encoding} pixels '
            f'({width * size} bytes)'
        )
    minimum = step * (height - 1) + width * size  # the last row may lack its padding
    if not minimum <= length <= step * height:
        raise InputError(
            f'image data has {length} bytes, but height ({height}) x step ({step}) is '
            f'{height * step}'
        )
    if width % 2 and encoding.startswith(('yuv', 'uyvy', 'yuyv')):
        raise InputError(f'encoding {encoding} needs an even width, not {width}')


def decode_raw(
    encoding: str, width: int, height: int, step: int, is_bigendian: bool, data: Buffer
) -> Image:
    """Decode a sensor_msgs/Image to RGB.

    Args:
        encoding: Pixel format, a key of `ENCODINGS`.
        width: Image width in pixels.
        height: Image height in pixels.
        step: Row length in bytes, including padding.
        is_bigendian: Byte order of mono16; other encodings ignore it.
        data: Pixel data, row by row.

    Returns:
        The image, (H, W, 3) uint8.

    Raises:
        InputError: The fields contradict each other, or the encoding is unknown.
    """
    buffer = np.frombuffer(data, np.uint8)
    check_raw(encoding, width, height, step, len(buffer))
    size, convert = ENCODINGS[encoding]
    if len(buffer) < step * height:
        buffer = np.concatenate([buffer, np.zeros(step * height - len(buffer), np.uint8)])
    rows = buffer.reshape(height, step)[:, : width * size]
    if encoding == 'mono16':
        rows = rows[:, 0 if is_bigendian else 1 :: 2]
    return np.ascontiguousarray(convert(rows))


def check_compressed(format: str, data: Buffer) -> None:
    """Check the first and last bytes of a sensor_msgs/CompressedImage.

    Args:
        format: The message field `format`.
        data: Bytes of the encoded image.

    Raises:
        InputError: The data is empty, truncated or a depth image, or does not begin like a JPEG or
            PNG although `format` names one of them.
    """
    buffer = np.frombuffer(data, np.uint8)
    if len(buffer) == 0:
        raise InputError(f"compressed image '{format}' contains no data")
    if re.search(r'compressedDepth', format):
        raise InputError(f"compressed image '{format}' is a depth image: use a color image topic")
    head, tail = buffer[:4].tobytes(), buffer[-4096:].tobytes()
    end = next((end for begin, end in SIGNATURES.items() if head.startswith(begin)), None)
    name = f"compressed image '{format}' of {len(buffer)} bytes"
    if end is None and re.search('jpe?g|png', format):
        raise InputError(f'{name} cannot be decoded: no JPEG or PNG signature')
    # libjpeg fills missing parts and only warns, so the end marker is checked here.
    if end is not None and end not in tail:
        raise InputError(f'{name} is truncated')


def decode_compressed(format: str, data: Buffer) -> Image:
    """Decode a sensor_msgs/CompressedImage to an RGB image, (H, W, 3) uint8.

    Args:
        format: The message field `format`.
        data: Bytes of the encoded image: JPEG, PNG or another format that OpenCV decodes.

    Raises:
        InputError: The data is empty, damaged or a depth image.
    """
    check_compressed(format, data)
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"compressed image '{format}' of {len(buffer)} bytes cannot be decoded")
    return np.ascontiguousarray(image[..., ::-1])


def rotate(image: Image, degrees: int) -> Image:
    """Rotate an image clockwise by 0, 90, 180 or 270 degrees; InputError for other angles."""
    if degrees not in (0, 90, 180, 270):
        raise InputError(f'rotation by {degrees} degrees is not supported (use 0, 90, 180 or 270)')
    return np.ascontiguousarray(np.rot90(image, -degrees // 90)) if degrees else image


def check_crop(crop: Sequence[float]) -> Crop:
    """Validate and return a crop rectangle (x, y, width, height), in fractions of the image.

    Raises:
        InputError: The crop does not have four finite numbers, is smaller than `LEAST_CROP`, or
            extends beyond the image.
    """
    values = tuple(float(value) for value in crop)
    if len(values) != 4:
        raise InputError(f'crop needs x, y, width and height, not {len(values)} numbers')
    x, y, width, height = values
    if not (x >= 0 and y >= 0 and 0 < width <= 1 - x + 1e-9 and 0 < height <= 1 - y + 1e-9):
        shown = ', '.join(f'{value:g}' for value in values)
        raise InputError(
            f'crop ({shown}) is not inside the image: x, y, width and height must be fractions '
            'in 0..1, with x + width and y + height at most 1'
        )
    if min(width, height) < LEAST_CROP:
        raise InputError(
            f'crop ({width:g} x {height:g} of the image) is too small: '
            f'width and height must be at least {LEAST_CROP:g}'
        )
    return x, y, width, height


def crop(image: Image, part: Crop) -> Image:
    """Crop an image to a rectangle (x, y, width, height in fractions) of at least one pixel."""
    if part == WHOLE:
        return image
    x, y, width, height = part
    rows, columns = image.shape[:2]
    left, top = min(round(x * columns), columns - 1), min(round(y * rows), rows - 1)
    right = max(round((x + width) * columns), left + 1)
    bottom = max(round((y + height) * rows), top + 1)
    return image[top:bottom, left:right]


def cut_transform(region: Sequence[float] | NDArray[np.float64], side: int, size: int) -> Affine:
    """Return the affine matrix (2, 3) with which `cut` maps image pixels to result pixels.

    Args:
        region: Rectangle (x, y, width, height) in fractions of the image.
        side: Side length of the square image, in pixels.
        size: Side length of the square result, in pixels.
    """
    x, y, width, height = region
    across, down = size / (width * side), size / (height * side)
    return np.array(
        [
            [across, 0.0, (0.5 - x * side) * across - 0.5],
            [0.0, down, (0.5 - y * side) * down - 0.5],
        ]
    )


def cut(image: Image, region: Sequence[float] | NDArray[np.float64], size: int) -> Image:
    """Return a region of a square image, resampled to (size, size, 3) with subpixel precision.

    The region is x, y, width and height in fractions of the image. Interpolation is bilinear, so
    the region should have at most twice as many pixels per side as the result.
    """
    transform = cut_transform(region, image.shape[0], size)
    return np.asarray(
        cv2.warpAffine(image, transform, (size, size), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def check_rgb(image: object) -> Image:
    """Return an image if it is a non-empty (H, W, 3) uint8 array, otherwise raise InputError."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f'the image is of type {type(image).__name__}, not a uint8 array of shape (H, W, 3)'
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            f'the image has shape {image.shape} and dtype {image.dtype}, not (H, W, 3) and uint8'
        )
    return image


def fit(image: Image, size: int) -> Image:
    """Crop the center square of an image and scale it to (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=interpolation)
