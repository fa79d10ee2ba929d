# SPDX-License-Identifier: Apache-2.0
"""Predicted embeddings (answers) of the vision side at moments of annotated streams.

For each moment, the frames of the `CONTEXT_S` before it are streamed tubelet by tubelet into a new
state, as at run time. The vision-blind answer to a prompt is the same model's answer to gray
frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.images import fit
from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.types import Image
from vljepa_ros.core.vectors import unit
from vljepa_ros.data.format import Annotation, Stream

CONTEXT_S = 2.0
GREY = 128
BLOCK = 64  # frames

Vectors = NDArray[np.float32]


def middle(annotation: Annotation) -> float:
    """Return the middle of an annotation, in seconds from the start of the stream."""
    return (annotation.start + annotation.end) / 2


def answers(vision: Vision, stream: Stream, at_s: float, prompts: Sequence[str]) -> Vectors:
    """Return the answers (P, D) to `prompts` at a time of a stream, in seconds from its start."""
    frames = stream.frames()[window(vision, stream, at_s)]
    return vision.predict(_streamed(vision, fitted(frames, vision.facts.image_size)), prompts)


def fitted(frames: NDArray[np.uint8], size: int) -> list[Image]:
    """Return frames (T, H, W, 3) as images of the model's size, resized as at run time."""
    return [fit(image, size) for image in np.asarray(frames)]


def frames_of(stream: Stream) -> Iterator[Image]:
    """Yield the frames of a stream in order; at most `BLOCK` frames are in memory at once."""
    frames = stream.frames()
    for start in range(0, len(frames), BLOCK):
        yield from np.asarray(frames[start : start + BLOCK])


def window(vision: Vision, stream: Stream, at_s: float) -> slice:
    """Return the slice of the frames to stream for the time `at_s`: whole tubelets before it.

    The stream is assumed to have the frame rate of the model.
    """
    facts = vision.facts
    stamps, per = stream.stamps_ns(), facts.tubelet_frames
    end = int(np.searchsorted(stamps, stamps[0] + round(at_s * 1e9), side='right'))
    count = min(round(CONTEXT_S * facts.rate_hz) // per, end // per)
    return slice(end - count * per, end)


def blind_answers(vision: Vision, prompts: Sequence[str]) -> Vectors:
    """Return the vision-blind answers (P, D) to `prompts`."""
    facts = vision.facts
    count = round(CONTEXT_S * facts.rate_hz)
    image = np.full((facts.image_size, facts.image_size, 3), GREY, np.uint8)
    return vision.predict(_streamed(vision, [image] * count), prompts)


def _streamed(vision: Vision, frames: Sequence[Image]) -> Any:
    state, per = vision.new_state(), vision.facts.tubelet_frames
    for t in range(len(frames) // per):
        vision.step(state, list(frames[per * t : per * (t + 1)]))
    return state


def centroid(vectors: Vectors) -> Vectors:
    """Return the mean (D,) of vectors (N, D), of unit norm."""
    return unit(vectors.mean(axis=0))
