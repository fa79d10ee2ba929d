# SPDX-License-Identifier: Apache-2.0
"""Frames stored as JPEG: exact reading of any part, and errors for damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import jpeg_frames
from vljepa_ros.data.jpeg_frames import JpegFrames


def smooth(count: int = 12, size: int = 32) -> np.ndarray:
    """Return smooth images: red increases to the right, blue with time."""
    frames = np.zeros((count, size, size, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 200, size)[None, None, :]
    frames[..., 2] = (np.arange(count) * 15)[:, None, None]
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    jpeg_frames.write(tmp_path, smooth(), 95)
    return tmp_path


def test_frames_are_read_in_order_and_in_color(folder: Path) -> None:
    found = JpegFrames(folder)
    assert (len(found), found.shape, found.dtype) == (12, (12, 32, 32, 3), np.uint8)
    for read, expected in zip(found, smooth(), strict=True):
        assert np.abs(read.astype(int) - expected).max() <= 6


def test_any_slice_equals_the_slice_of_all_frames(folder: Path) -> None:
    found, whole = JpegFrames(folder), np.asarray(JpegFrames(folder))
    np.testing.assert_array_equal(found[3:9:2], whole[3:9:2])
    np.testing.assert_array_equal(found[-1], whole[-1])
    np.testing.assert_array_equal(found[np.array([5, 5, 0])], whole[[5, 5, 0]])
    assert found[4:4].shape == (0, 32, 32, 3)
    with pytest.raises(IndexError):
        found[12]


def test_jpeg_frames_are_much_smaller_than_raw_frames(tmp_path: Path) -> None:
    frames = smooth(4, 128)
    jpeg_frames.write(tmp_path, frames, 90)
    assert (tmp_path / jpeg_frames.FILE).stat().st_size < frames.nbytes / 8


@pytest.mark.parametrize('lost', [1, 100])
def test_a_truncated_file_is_named(folder: Path, lost: int) -> None:
    path = folder / jpeg_frames.FILE
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InputError, match=jpeg_frames.FILE):
        JpegFrames(folder)


def test_reading_a_damaged_image_names_it(folder: Path) -> None:
    path = folder / jpeg_frames.FILE
    starts = np.load(folder / jpeg_frames.INDEX)
    data = bytearray(path.read_bytes())
    data[starts[7] : starts[8]] = b'\0' * int(starts[8] - starts[7])
    path.write_bytes(data)
    found = JpegFrames(folder)
    assert found[6].shape == (32, 32, 3)
    with pytest.raises(InputError, match='7'):
        found[7]
