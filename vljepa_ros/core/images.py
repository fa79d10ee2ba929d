# SPDX-License-Identifier: Apache-2.0
"""Camera data -> RGB pictures, without cv_bridge: encodings of sensor_msgs, JPEG and PNG.

Pictures are (H, W, 3) uint8, RGB. Row padding (`step`) is cut off. Encodings here have 8 bits a
channel, so that `is_bigendian` changes nothing, but for mono16, of which the high byte is kept.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Image

MAX_PIXELS = 100_000_000  # a header that claims more is damaged
MARKS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}  # how JPEG and PNG begin, and end
Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int] | NDArray[np.uint8]'
Rows = NDArray[np.uint8]  # (H, W * bytes a pixel)


def _channels(count: int, order: tuple[int, ...]) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        return rows.reshape(len(rows), -1, count)[..., list(order)]

    return convert


def _colour(code: int, count: int) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        pixels = rows.reshape(len(rows), -1, count) if count > 1 else rows
        return cv2.cvtColor(np.ascontiguousarray(pixels), code)

    return convert


# Encoding -> bytes a pixel, conversion. ROS names a Bayer pattern by its first row's first pixels,
# OpenCV by the second row's second: hence the swapped names.
ENCODINGS: dict[str, tuple[int, Callable[[Rows], NDArray[np.uint8]]]] = {
    'rgb8': (3, _channels(3, (0, 1, 2))),
    'bgr8': (3, _channels(3, (2, 1, 0))),
    'rgba8': (4, _channels(4, (0, 1, 2))),
    'bgra8': (4, _channels(4, (2, 1, 0))),
    '8UC3': (3, _channels(3, (2, 1, 0))),
    'mono8': (1, _colour(cv2.COLOR_GRAY2RGB, 1)),
    '8UC1': (1, _colour(cv2.COLOR_GRAY2RGB, 1)),
    'mono16': (2, _colour(cv2.COLOR_GRAY2RGB, 1)),
    'yuv422': (2, _colour(cv2.COLOR_YUV2RGB_UYVY, 2)),
    'uyvy': (2, _colour(cv2.COLOR_YUV2RGB_UYVY, 2)),
    'yuv422_yuy2': (2, _colour(cv2.COLOR_YUV2RGB_YUY2, 2)),
    'yuyv': (2, _colour(cv2.COLOR_YUV2RGB_YUY2, 2)),
    'bayer_rggb8': (1, _colour(cv2.COLOR_BayerBG2RGB, 1)),
    'bayer_bggr8': (1, _colour(cv2.COLOR_BayerRG2RGB, 1)),
    'bayer_gbrg8': (1, _colour(cv2.COLOR_BayerGR2RGB, 1)),
    'bayer_grbg8': (1, _colour(cv2.COLOR_BayerGB2RGB, 1)),
}


def check_raw(encoding: str, width: int, height: int, step: int, length: int) -> None:
    """Raise InputError that names what disagrees in a sensor_msgs/Image of `length` bytes."""
    if encoding not in ENCODINGS:
        raise InputError(f"unknown encoding '{encoding}' (known: {', '.join(ENCODINGS)})")
    size, _ = ENCODINGS[encoding]
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(f'image of {width}x{height} pixels')
    if step < width * size:
        raise InputError(
            f'step ({step}) is shorter than a row of {width} pixels of {encoding} ({width * size})'
        )
    least = step * (height - 1) + width * size  # the last row may come without its padding
    if not least <= length <= step * height:
        raise InputError(
            f'data of {length} bytes does not match height ({height}) x step ({step})'
        )
    if width % 2 and encoding.startswith(('yuv', 'uyvy', 'yuyv')):
        raise InputError(f'{encoding} needs an even width, not {width}')


def decode_raw(
    encoding: str, width: int, height: int, step: int, is_bigendian: bool, data: Buffer
) -> Image:
    """The picture of a sensor_msgs/Image. Raises InputError that names what disagrees."""
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
    """Raise InputError where the ends of a sensor_msgs/CompressedImage show that it is damaged."""
    buffer = np.frombuffer(data, np.uint8)
    if len(buffer) == 0:
        raise InputError(f"compressed image '{format}' without data")
    if re.search(r'compressedDepth', format):
        raise InputError(f"compressed format '{format}' is a depth image, not a picture")
    head, tail = buffer[:4].tobytes(), buffer[-4096:].tobytes()
    end = next((end for begin, end in MARKS.items() if head.startswith(begin)), None)
    what = f"compressed image '{format}' of {len(buffer)} bytes"
    if end is None and re.search('jpe?g|png', format):
        raise InputError(f'{what} cannot be decoded: it begins neither as JPEG nor as PNG')
    # libjpeg fills in what is missing and only warns: without its end mark a picture is damaged.
    if end is not None and end not in tail:
        raise InputError(f'{what} is truncated')


def decode_compressed(format: str, data: Buffer) -> Image:
    """The picture of a sensor_msgs/CompressedImage (JPEG or PNG). Raises InputError if damaged."""
    check_compressed(format, data)
    buffer = np.frombuffer(data, np.uint8)
    try:
        picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise InputError(f"compressed image '{format}' of {len(buffer)} bytes cannot be decoded")
    return np.ascontiguousarray(picture[..., ::-1])


def rotate(image: Image, degrees: int) -> Image:
    """The picture turned clockwise by 0, 90, 180 or 270 degrees."""
    if degrees not in (0, 90, 180, 270):
        raise InputError(f'rotation by {degrees} degrees (known: 0, 90, 180, 270)')
    return np.ascontiguousarray(np.rot90(image, -degrees // 90)) if degrees else image


def fit(image: Image, size: int) -> Image:
    """The centre square of the picture, (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=how)
