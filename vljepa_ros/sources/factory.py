# SPDX-License-Identifier: Apache-2.0
"""Open a recording: a bag of ROS, a video file or an image folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.sources.bag_names import METADATA, PART
from vljepa_ros.sources.base import Source


def is_bag(path: Path) -> bool:
    """Return whether a path is a recording of ROS, by the first bytes or the name of the file.

    Raises:
        OSError: The path cannot be read.
    """
    if path.is_dir():
        return (path / METADATA).exists() or any(PART.fullmatch(p.name) for p in path.iterdir())
    if PART.fullmatch(path.name):
        return True
    from vljepa_ros.sources.bag_files import format_of

    return path.is_file() and format_of(path) is not None


def open_source(path: str | Path, topics: Sequence[str] = (), fps: float = 0.0) -> Source:
    """Open a recording as an iterable of frames.

    Args:
        path: Bag, video file or image folder.
        topics: Topics of a bag as `[NAME=]TOPIC`, with an optional camera name; if empty, all
            image topics.
        fps: Images per second of an image folder; 0 for the default.

    Raises:
        InputError: The path is missing, empty, damaged or without images, or `topics` or `fps`
            does not apply to this type of recording.
    """
    path = Path(path)
    try:
        return _open(path, topics, fps)
    except OSError as error:  # no permission, or the name is too long
        raise InputError(f'{path}: {error.strerror or error}') from error


def _open(path: Path, topics: Sequence[str], fps: float) -> Source:
    if not path.exists():
        raise InputError(f'{path}: no such file or folder')
    if is_bag(path):
        from vljepa_ros.sources.bag import BagSource

        if fps:
            raise InputError(f'{path}: fps is for image folders only; a bag has its own stamps')
        return BagSource(path, topics)
    if topics:
        raise InputError(f'{path}: topics can be selected in bags only')
    from vljepa_ros.sources.image_folder import DEFAULT_FPS, IMAGE_SUFFIXES, FolderSource

    if path.is_dir():
        if not any(path.iterdir()):
            raise InputError(f'{path}: the folder is empty')
        return FolderSource(path, fps or DEFAULT_FPS)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f'{path}: a single image is not a recording; pass its folder instead')
    if fps:
        raise InputError(f'{path}: fps is for image folders only; a video has its own stamps')
    try:
        from vljepa_ros.sources.video import VideoSource
    except ModuleNotFoundError as error:
        raise InputError(
            f'{path}: video files need the Python package {error.name}: pip install av'
        ) from error
    return VideoSource(path)
