# SPDX-License-Identifier: Apache-2.0
"""Eyes over any number of cameras: frames in, one embedding a hop and standing prompt out.

One thread owns a `Perceiver`. Stamps have been judged by an `Intake` before; a frame of another
epoch than the one before it starts its camera anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.errors import InputError
from vljepa_ros.stream.frames import Sampler, Slot
from vljepa_ros.stream.images import fit
from vljepa_ros.stream.interfaces import Eyes
from vljepa_ros.stream.settings import (
    MAX_PROMPTS,
    PerceptionSettings,
    check_prompts,
    check_text,
)
from vljepa_ros.stream.types import Embedding, Frame, StreamKey, Vector

MAX_SPAN_HOPS = 64  # a question about the past may hold up the stream for no longer than these


@dataclass(frozen=True)
class Prediction:
    """Answer embeddings (P, D) of one source: of now, or pooled over the hops of a span."""

    source: str
    stamp_ns: int
    window_start_ns: int
    model_id: str
    vectors: NDArray[np.float32]


class _Camera:
    """Everything that depends on one camera's past."""

    def __init__(
        self, eyes: Eyes, period_ns: int, settings: PerceptionSettings, epoch: int
    ) -> None:
        facts = eyes.facts
        self.sampler = Sampler(period_ns, settings.max_gap_ns)
        kept = max(round(settings.frames_kept_s * 1e9 / period_ns), facts.tubelet_frames)
        self.history: deque[tuple[Slot, ...]] = deque(maxlen=max(kept // facts.tubelet_frames, 1))
        self.epoch = epoch
        self.skipped = 0
        self._eyes = eyes
        self.restart()

    def restart(self) -> None:
        """Forget what was seen; counters and the kept frames of `predict` go, too."""
        self.skipped += self.sampler.skipped
        self.sampler.reset()
        self.sampler.skipped = 0
        self.history.clear()
        self.pending: list[Slot] = []
        self.starts_ns: deque[int] = deque(maxlen=self._eyes.facts.window_tubelets)
        self.state: Any = self._eyes.new_state()
        self.stamp_ns: int | None = None

    def step(self, tubelet: tuple[Slot, ...]) -> None:
        """See one tubelet."""
        self._eyes.step(self.state, [slot.image for slot in tubelet])
        self.history.append(tubelet)
        self.starts_ns.append(tubelet[0].stamp_ns)
        self.stamp_ns = tubelet[-1].stamp_ns


class Perceiver:
    """The eyes of all cameras. Counters: `hops`, `skipped_slots`."""

    def __init__(self, eyes: Eyes, settings: PerceptionSettings | None = None) -> None:
        self._eyes, self._settings = eyes, settings or PerceptionSettings()
        rate = self._settings.rate
        self._period_ns = round(1e9 / rate) if rate else eyes.facts.frame_period_ns
        self._cameras: dict[str, _Camera] = {}
        self._prompts = self.check_prompts(self._settings.prompts)
        self.hops = 0

    @property
    def prompts(self) -> tuple[str, ...]:
        """The standing prompts."""
        return self._prompts

    def set_prompts(self, prompts: Sequence[str]) -> None:
        """Replace all standing prompts, or none: InputError leaves the old ones."""
        self._prompts = self.check_prompts(prompts)

    def check_prompts(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Standing prompts that this model can take, or InputError; any thread may ask."""
        checked = check_prompts(tuple(prompts))
        self._eyes.check_prompts(checked)
        return checked

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras seen so far."""
        return tuple(self._cameras)

    @property
    def skipped_slots(self) -> int:
        """Slots of the grid that were not filled: no frame was near, or theirs were dropped."""
        return sum(c.skipped + c.sampler.skipped for c in self._cameras.values())

    def reset(self) -> None:
        """Forget all cameras."""
        self._cameras.clear()

    def push(self, frame: Frame, epoch: int = 0) -> list[Embedding]:
        """The embeddings that this frame completes, by hop and then by prompt."""
        return [embedding for hop in self.see(frame, epoch) for embedding in hop]

    def see(
        self, frame: Frame, epoch: int = 0, dropped: bool = False
    ) -> Iterator[list[Embedding]]:
        """Each hop that this frame completes, as soon as it is done: its embeddings by prompt.

        `dropped` says that frames before this one were, for lack of time: then it completes one
        hop at most, so that what is seen stays near to now.
        """
        image = self._checked(frame)
        camera = self._cameras.get(frame.source)
        if camera is None:
            camera = _Camera(self._eyes, self._period_ns, self._settings, epoch)
            self._cameras[frame.source] = camera
        if camera.epoch != epoch:
            camera.restart()
            camera.epoch = epoch
        length = self._eyes.facts.tubelet_frames
        room = length - len(camera.pending) if dropped else None
        for slot in camera.sampler.push(frame.stamp_ns, image, room):
            camera.pending.append(slot)
            if len(camera.pending) == length:
                tubelet, camera.pending = tuple(camera.pending), []
                camera.step(tubelet)
                self.hops += 1
                yield self._embed(frame.source, camera)

    def predict(
        self, source: str, prompts: Sequence[str], start_ns: int = 0, end_ns: int = 0
    ) -> Prediction:
        """Answers to prompts about now, or about a span of the recent past (0 = now).

        Raises InputError: an unknown source, no frame yet, a bad prompt, a span that is not held.
        """
        if len(prompts) > MAX_PROMPTS:
            raise InputError(f'{len(prompts):,} prompts are too many (at most {MAX_PROMPTS})')
        for prompt in prompts:
            check_text(prompt)
        self._eyes.check_prompts(prompts)
        source, camera = self._camera(source)
        if start_ns == 0 and end_ns == 0:
            vectors = self._eyes.predict(camera.state, prompts)
            stamp_ns, window_start_ns = camera.stamp_ns or 0, camera.starts_ns[0]
        else:
            stamp_ns, window_start_ns, vectors = self._look_back(camera, prompts, start_ns, end_ns)
        return Prediction(source, stamp_ns, window_start_ns, self._eyes.facts.model_id, vectors)

    def _checked(self, frame: Frame) -> NDArray[np.uint8]:
        image = frame.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(f'frame of shape {image.shape} {image.dtype} is not (H, W, 3) uint8')
        return fit(image, self._eyes.facts.image_size)

    def _embed(self, source: str, camera: _Camera) -> list[Embedding]:
        if not self._prompts:
            return []
        vectors = self._eyes.predict(camera.state, self._prompts)
        assert camera.stamp_ns is not None
        return [
            Embedding(
                camera.stamp_ns,
                camera.starts_ns[0],
                StreamKey(source, prompt, self._eyes.facts.model_id),
                vector,
                camera.epoch,
            )
            for prompt, vector in zip(self._prompts, vectors, strict=True)
        ]

    def _camera(self, source: str) -> tuple[str, _Camera]:
        known = ', '.join(self._cameras) or 'none yet'
        if source == '':
            if len(self._cameras) > 1:
                raise InputError(f'several sources are seen, name one (known: {known})')
            source = next(iter(self._cameras), '')
        elif source not in self._cameras and self._cameras:
            raise InputError(f"unknown source '{source}' (known: {known})")
        camera = self._cameras.get(source)
        if camera is None or camera.stamp_ns is None:
            raise InputError('no frame yet: the model has seen nothing')
        return source, camera

    def _look_back(
        self, camera: _Camera, prompts: Sequence[str], start_ns: int, end_ns: int
    ) -> tuple[int, int, NDArray[np.float32]]:
        """Stream the kept frames of a span again, from one window earlier; pool over its hops."""
        assert camera.stamp_ns is not None
        end_ns = end_ns or camera.stamp_ns
        if end_ns < start_ns:
            raise InputError(f'the span ends {(start_ns - end_ns) / 1e9:.3f} s before it starts')
        history = list(camera.history)
        inside = [i for i, t in enumerate(history) if start_ns <= t[-1].stamp_ns <= end_ns]
        if not inside or (
            history[0][0].stamp_ns > start_ns and len(history) == camera.history.maxlen
        ):
            oldest, newest = history[0][0].stamp_ns, camera.stamp_ns
            raise InputError(
                f'the frames of {start_ns / 1e9:.3f}..{end_ns / 1e9:.3f} s are not held '
                f'(held: {oldest / 1e9:.3f}..{newest / 1e9:.3f} s)'
            )
        if len(inside) > MAX_SPAN_HOPS:
            limit_s = MAX_SPAN_HOPS * self._period_ns * self._eyes.facts.tubelet_frames / 1e9
            raise InputError(f'the span is too long to look at again (at most {limit_s:.1f} s)')
        state, vectors = self._eyes.new_state(), []
        for i in range(max(0, inside[0] - self._eyes.facts.window_tubelets), inside[-1] + 1):
            self._eyes.step(state, [slot.image for slot in history[i]])
            if i >= inside[0]:
                vectors.append(self._eyes.predict(state, prompts))
        return (
            history[inside[-1]][-1].stamp_ns,
            history[inside[0]][0].stamp_ns,
            unit(np.mean(vectors, axis=0)),
        )


def unit(vectors: NDArray[np.float32]) -> Vector:
    """Rows of unit norm, float32; a zero row stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)
