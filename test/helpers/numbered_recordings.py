# SPDX-License-Identifier: Apache-2.0
"""Recordings in which each image encodes its number, and annotation files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from helpers import bags

STEP = 5  # gray levels between consecutive images


def gray(index: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Return the image of a number, 0..50."""
    return np.full((height, width, 3), STEP * index, np.uint8)


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers of images (T, S, S, 3)."""
    return [round(value / STEP) for value in frames.mean((1, 2, 3))]


def video(path: Path, count: int = 50, fps: float = 25.0) -> Path:
    """Write a video of the images 0, 1, ..."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), fps, (32, 24))
    for index in range(count):
        writer.write(gray(index))
    writer.release()
    return path


def image_folder(folder: Path, count: int) -> Path:
    """Write a folder of the images 0, 1, ..., lossless."""
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f'{index}.png'), gray(index))
    return folder


def rows(times_s: Iterable[float], topic: str = bags.TOPIC) -> list[bags.Row]:
    """Return messages for a bag: images 0, 1, ... at these seconds after bags.START_NS."""
    stamps = [bags.START_NS + round(time * 1e9) for time in times_s]
    return [
        (topic, stamp, bags.compressed(stamp, bags.jpeg(gray(index))))
        for index, stamp in enumerate(stamps)
    ]


def bag(folder: Path, *topics: list[bags.Row]) -> Path:
    """Write a bag with messages of some topics, in the order of recording."""
    return bags.write(folder, sorted((row for own in topics for row in own), key=lambda r: r[1]))


def caption_line(start: Any, end: Any, text: Any = 'It moves.', **more: Any) -> dict[str, Any]:
    """Return an annotation line with a caption."""
    return {'start': start, 'end': end, 'text': text, **more}


def question_line(
    time: Any, prompt: Any = 'Does it?', answer: Any = 'yes', **more: Any
) -> dict[str, Any]:
    """Return an annotation line with a question."""
    return {'time': time, 'prompt': prompt, 'answer': answer, **more}


def write_lines(path: Path, *given: Any) -> Path:
    """Write an annotation file; strings are written unchanged."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in given]
    path.write_text(''.join(text + '\n' for text in texts), encoding='utf-8')
    return path
