# SPDX-License-Identifier: Apache-2.0
"""Fake simulator: generates blank streams, also in separate processes."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np

from vljepa_ros.core.errors import OutputError
from vljepa_ros.data import format as data_format
from vljepa_ros.data.format import Annotation, StreamData, write_stream
from vljepa_ros.data.generation import Work

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
SIDE = 192  # default image size of streams


def film(split: str, seed: int, seconds: float) -> StreamData:
    """Return a stream of blank images with the name that the simulator would give it."""
    count = round(seconds * 10)
    annotations = (Annotation(0.0, count / 10, 'rest', 'rest', 'push', 'puck', 'red'),)
    return StreamData(
        f'{split}-{seed:05d}',
        np.zeros((count, SIDE, SIDE, 3), np.uint8),
        np.arange(count) * 100_000_000,
        annotations if count else (),
        {'seed': seed, 'rate_hz': 10},
    )


def make(work: Work) -> str:
    """Make one stream."""
    split, seed, seconds, folder, _ = work
    return write_stream(Path(folder), film(split, seed, seconds)).name


def make_in_a_child(work: Work) -> str:
    """Make one stream and record the id of the process."""
    name = make(work)
    (Path(work[3]).parent / f'{name}.{os.getpid()}').touch()
    return name


def make_until_full(work: Work) -> str:
    """Make the streams of even seeds; the disk is full in the middle of the others."""
    if work[1] % 2 == 0:
        return make(work)
    saved = data_format._save

    def save(path: Path, array: np.ndarray) -> None:
        if path.name == 'stamps.npy':
            raise FULL
        saved(path, array)

    data_format._save = save
    try:
        return make(work)
    finally:
        data_format._save = saved


def make_slowly_but_the_first(work: Work) -> str:
    """Fail at once for the first seed, take a while for others."""
    if work[1] == 0:
        raise OutputError('full')
    time.sleep(0.3)
    return make(work)


def make_forever(work: Work) -> str:
    """Note the process that makes the stream, which takes very long."""
    (Path(work[3]).parent / f'making.{os.getpid()}').touch()
    time.sleep(600)
    return ''


def make_until_killed(work: Work) -> str:
    """Leave an incomplete stream behind, like a process that the kernel kills."""
    split, seed, _, folder, _ = work
    partial = Path(folder) / f'.{split}-{seed:05d}.{os.getpid()}'
    partial.mkdir()
    (partial / 'frames.npy').write_bytes(b'half')
    os.kill(os.getpid(), signal.SIGKILL)
    return ''
