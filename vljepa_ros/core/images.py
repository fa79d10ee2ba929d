# SPDX-License-Identifier: Apache-2.0
"""Decode camera data to RGB images without cv_bridge: sensor_msgs encodings, JPEG and PNG.

Images are (H, W, 3) uint8, RGB. Row padding (`step`) is removed. Encodings with 16 bits per
channel are reduced to their high bytes. Depth images are refused, whatever their transport.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from vljepa_ros.core.errors import DepthImageError, InputError
from vljepa_ros.core.types import Image

# Message types of images.
RAW, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
FFMPEG = 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket'
FOXGLOVE = 'foxglove_msgs/msg/CompressedVideo'
VIDEO = (FFMPEG, FOXGLOVE)  # H.264 and H.265
# Message types by the name of image_transport's plugin, which ends the topic name: <base>/ffmpeg.
TRANSPORTS = {'raw': RAW, 'compressed': COMPRESSED, 'ffmpeg': FFMPEG, 'foxglove': FOXGLOVE}
MAX_PIXELS = 100_000_000  # a larger size is treated as a damaged header
JPEG, PNG = b'\xff\xd8', b'\x89PNG'  # first bytes
DEPTH = re.compile(r'(16U|16S|32S|32F|64F)(C1)?')  # encodings with one number per pixel
JPEG_END = b'\xff\xd9'
# Some cameras align the end mark. More bytes before it are image data that was not decoded.
PADDING = re.compile(r'(\d+) extraneous bytes before marker 0xd9')
MOST_PADDING = 64
EXIF_WITHIN = 4096  # the Exif segment is one of the first
Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int] | NDArray[np.uint8]'
Rows = NDArray[np.uint8]  # (number of rows, step)
Affine = NDArray[np.float64]  # (2, 3)
Crop: TypeAlias = tuple[float, float, float, float]  # x, y, width, height in fractions
WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)
LEAST_CROP = 0.05  # smallest width and height of a crop: 16 of 320 pixels
# BT.601 with luma 16..235, as in OpenCV's other YUV conversions: RGB = matrix @ (Y, U, V, 1).
YUV_TO_RGB = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)


@dataclass(frozen=True)
class Encoding:
    """Pixel format of sensor_msgs/Image.

    `size`: bytes per pixel in a row. `convert`: function from data without row padding, (number of
    rows, W * size) uint8, to RGB, (H, W, 3). `rows`: rows of data per two rows of the image, 2
    except with color planes below the image. `cell`: width and height must be multiples of these.
    """

    size: int
    convert: Callable[[Rows], NDArray[np.uint8]]
    rows: int = 2
    cell: tuple[int, int] = (1, 1)


def _channels(count: int, order: tuple[int, ...]) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        return rows.reshape(len(rows), -1, count)[..., list(order)]

    return convert


def _color(code: int, count: int) -> Callable[[Rows], NDArray[np.uint8]]:
    def convert(rows: Rows) -> NDArray[np.uint8]:
        pixels = rows.reshape(len(rows), -1, count) if count > 1 else rows
        return cv2.cvtColor(np.ascontiguousarray(pixels), code)

    return convert


def _nv24(rows: Rows) -> NDArray[np.uint8]:
    height, width = len(rows) // 3, rows.shape[1]
    chroma = rows[height:].reshape(height, width, 2)
    pixels = np.concatenate([rows[:height, :, None], chroma], axis=2)
    return np.asarray(cv2.transform(pixels, YUV_TO_RGB), np.uint8)


_UYVY = Encoding(2, _color(cv2.COLOR_YUV2RGB_UYVY, 2), cell=(2, 1))
_YUYV = Encoding(2, _color(cv2.COLOR_YUV2RGB_YUY2, 2), cell=(2, 1))
_GRAY = Encoding(1, _color(cv2.COLOR_GRAY2RGB, 1))
_BGR = Encoding(3, _channels(3, (2, 1, 0)))
_BGRA = Encoding(4, _channels(4, (2, 1, 0)))
# ROS names a Bayer pattern after the first two pixels of the first row, OpenCV after the second
# and third pixel of the second row, so the names differ.
ENCODINGS: dict[str, Encoding] = {
    'rgb8': Encoding(3, _channels(3, (0, 1, 2))),
    'bgr8': _BGR,
    'rgba8': Encoding(4, _channels(4, (0, 1, 2))),
    'bgra8': _BGRA,
    '8UC3': _BGR,  # OpenCV's types without an order of colors have OpenCV's order
    '8UC4': _BGRA,
    'mono8': _GRAY,
    '8UC1': _GRAY,
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': Encoding(1, _color(cv2.COLOR_YUV2RGB_NV12, 1), 3, (2, 2)),
    'nv21': Encoding(1, _color(cv2.COLOR_YUV2RGB_NV21, 1), 3, (2, 2)),
    'nv24': Encoding(1, _nv24, 6),
    'bayer_rggb8': Encoding(1, _color(cv2.COLOR_BayerBG2RGB, 1)),
    'bayer_bggr8': Encoding(1, _color(cv2.COLOR_BayerRG2RGB, 1)),
    'bayer_gbrg8': Encoding(1, _color(cv2.COLOR_BayerGR2RGB, 1)),
    'bayer_grbg8': Encoding(1, _color(cv2.COLOR_BayerGB2RGB, 1)),
}
# Encodings with 16 bits per channel -> the encoding of their high bytes.
WIDE = {
    name.removesuffix('8') + '16': name
    for name in ENCODINGS
    if re.fullmatch('(rgba?|bgra?|mono|bayer_....)8', name)
} | {'16UC3': '8UC3', '16UC4': '8UC4'}


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
    check_color(encoding)
    if encoding not in ENCODINGS and encoding not in WIDE:
        known = ', '.join([*ENCODINGS, *WIDE])
        raise InputError(f"unknown encoding '{encoding}' (known: {known})")
    form = ENCODINGS[WIDE.get(encoding, encoding)]
    size = form.size * (2 if encoding in WIDE else 1)
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
    across, down = form.cell
    if width % across or height % down:
        needs = 'an even width' if down == 1 else 'an even width and height'
        raise InputError(f'encoding {encoding} needs {needs}, not {width}x{height}')
    rows = height * form.rows // 2
    minimum = step * (rows - 1) + width * size  # the last row may lack its padding
    if not minimum <= length <= step * rows:
        planes = f' x {form.rows / 2:g} ({encoding})' if form.rows != 2 else ''
        raise InputError(
            f'image data has {length} bytes, but height ({height}) x step ({step}){planes} is '
            f'{step * rows}'
        )


def check_color(encoding: str) -> None:
    """Raise DepthImageError if an encoding has one number per pixel, as depth images have."""
    if DEPTH.fullmatch(encoding):
        raise DepthImageError(f"encoding '{encoding}' is a depth image, not a color image")


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
    form = ENCODINGS[WIDE.get(encoding, encoding)]
    length = step * height * form.rows // 2
    if len(buffer) < length:
        buffer = np.concatenate([buffer, np.zeros(length - len(buffer), np.uint8)])
    if encoding in WIDE:
        rows = buffer.reshape(height, step)[:, (0 if is_bigendian else 1) :: 2]
        rows = rows[:, : width * form.size]
    elif encoding == 'nv24':  # its color plane has rows of twice the step
        luma = buffer[: step * height].reshape(height, step)[:, :width]
        chroma = buffer[step * height :].reshape(height, 2 * step)[:, : 2 * width]
        rows = np.concatenate([luma, chroma.reshape(2 * height, width)])
    else:
        rows = buffer.reshape(-1, step)[:, : width * form.size]
    return np.ascontiguousarray(form.convert(rows))


def check_compressed(format: str, data: Buffer) -> None:
    """Check the format and the first bytes of a sensor_msgs/CompressedImage.

    Args:
        format: The message field `format`, possibly with the encoding of the raw image first:
            "bgr8; jpeg compressed bgr8".
        data: Bytes of the encoded image.

    Raises:
        DepthImageError: The format names a depth image.
        InputError: The data is empty, or does not begin like a JPEG or PNG although `format` names
            one of them.
    """
    buffer = np.frombuffer(data, np.uint8)
    if len(buffer) == 0:
        raise InputError(f"compressed image '{format}' contains no data")
    if 'compressedDepth' in format:
        raise DepthImageError(f"compressed format '{format}' is a depth image, not a color image")
    check_color(format.partition(';')[0].strip())
    if re.search('jpe?g|png', format) and not buffer[:4].tobytes().startswith((JPEG, PNG)):
        raise InputError(f'{_name(format, buffer)} cannot be decoded: no JPEG or PNG signature')


def decode_compressed(format: str, data: Buffer) -> Image:
    """Decode a sensor_msgs/CompressedImage to an RGB image, (H, W, 3) uint8.

    Whether an image is complete is decided by its decoder: bytes after its end are ignored.

    Args:
        format: The message field `format`.
        data: Bytes of the encoded image: JPEG, PNG or another format that OpenCV decodes.

    Raises:
        DepthImageError: The image has one channel of more than 8 bits, and `format` does not begin
            with mono16.
        InputError: The data is empty, truncated or damaged.
    """
    check_compressed(format, data)
    buffer = np.frombuffer(data, np.uint8)
    if buffer[:2].tobytes() == JPEG:
        return _decode_jpeg(format, buffer)
    image = _decode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype != np.uint8:
        original = _decode(buffer, cv2.IMREAD_UNCHANGED)
        is_deep = original is not None and original.dtype != np.uint8 and original.ndim == 2
        if original is not None and is_deep and not format.startswith('mono16'):
            raise DepthImageError(
                f'{_name(format, buffer)} has one channel of {original.dtype}: '
                'a depth image, not a color image'
            )
        image = _decode(buffer, cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{_name(format, buffer)} cannot be decoded: truncated or damaged')
    return np.ascontiguousarray(image[..., ::-1])


def _decode_jpeg(format: str, buffer: NDArray[np.uint8]) -> Image:
    """Decode a JPEG, which may lack its end mark, with the warnings of libjpeg as errors.

    OpenCV ignores these warnings and returns an image with a gray area in place of missing data.
    """
    if buffer[-2:].tobytes() != JPEG_END:
        # The decoder stops at the end mark of the image, if it has one.
        buffer = np.append(buffer, np.frombuffer(JPEG_END, np.uint8))
    try:
        height, width = simplejpeg.decode_jpeg_header(buffer)[:2]
        if width * height > MAX_PIXELS:
            raise InputError(
                f'{_name(format, buffer)}: {width}x{height} pixels are more than {MAX_PIXELS:,}'
            )
        image = simplejpeg.decode_jpeg(buffer, 'RGB', strict=True)
    except ValueError as error:
        image = _decode_unusual_jpeg(format, buffer, str(error))
    if b'Exif\0' in buffer[:EXIF_WITHIN].tobytes():  # may state a rotation, which OpenCV applies
        rotated = _decode(buffer, cv2.IMREAD_COLOR)
        image = image if rotated is None else rotated[..., ::-1]
    return np.ascontiguousarray(image)


def _decode_unusual_jpeg(format: str, buffer: NDArray[np.uint8], reason: str) -> Image:
    """Decode a JPEG after a warning or error of libjpeg.

    Raises:
        InputError: The warning concerns the pixels, or OpenCV cannot decode the image either.
    """
    padding = PADDING.search(reason)
    if 'premature end' in reason:
        raise InputError(f'{_name(format, buffer)} is truncated')
    if reason.startswith('Corrupt') and not (padding and int(padding[1]) <= MOST_PADDING):
        raise InputError(f'{_name(format, buffer)} is damaged: {reason}')
    image = _decode(buffer, cv2.IMREAD_COLOR)  # for example colors as CMYK
    if image is None:
        raise InputError(
            f'{_name(format, buffer)} cannot be decoded: truncated or damaged ({reason})'
        )
    return np.asarray(image[..., ::-1], np.uint8)


def _decode(buffer: NDArray[np.uint8], flags: int) -> NDArray[np.generic] | None:
    try:
        return cv2.imdecode(buffer, flags)
    except cv2.error:
        return None


def _name(format: str, buffer: NDArray[np.uint8]) -> str:
    return f"compressed image '{format}' of {len(buffer)} bytes"


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
