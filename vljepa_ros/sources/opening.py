# SPDX-License-Identifier: Apache-2.0
"""A path -> the source that it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.sources.base import Source

BAG_FILES = ('.mcap', '.db3')


def is_bag(path: Path) -> bool:
    """Whether a path looks like a rosbag2 recording."""
    if path.is_dir():
        return (path / 'metadata.yaml').exists() or any(
            p.suffix in BAG_FILES for p in path.iterdir()
        )
    return path.suffix in BAG_FILES


def open_source(path: str | Path, topics: Sequence[str] = (), fps: float = 0.0) -> Source:
    """Open a recording; `topics` ([NAME=]TOPIC) choose among a bag's, `fps` is a folder's.

    Raises:
        InputError: it is not there, empty, damaged, or nothing that holds pictures.
    """
    path = Path(path)
    try:
        return _open(path, topics, fps)
    except OSError as error:  # not permitted, or a name that is too long
        raise InputError(f'{path}: {error.strerror or error}') from error


def _open(path: Path, topics: Sequence[str], fps: float) -> Source:
    if not path.exists():
        raise InputError(f'no such file or folder: {path}')
    if is_bag(path):
        from vljepa_ros.sources.bag import BagSource

        if fps:
            raise InputError(f'{path}: a bag has stamps of its own; fps is for folders')
        return BagSource(path, topics)
    if topics:
        raise InputError(f'{path}: topics can be chosen in a bag only')
    from vljepa_ros.sources.files import DEFAULT_FPS, PICTURES, FolderSource, VideoSource

    if path.is_dir():
        if not any(path.iterdir()):
            raise InputError(f'{path}: the folder is empty')
        return FolderSource(path, fps or DEFAULT_FPS)
    if path.suffix.lower() in PICTURES:
        raise InputError(f'{path}: one picture is no stream; name the folder that it lies in')
    if fps:
        raise InputError(f'{path}: a video has stamps of its own; fps is for folders')
    return VideoSource(path)
