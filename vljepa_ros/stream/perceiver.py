# SPDX-License-Identifier: Apache-2.0
"""Compute embeddings from the frames of any number of cameras: one per hop and standing prompt.

A hop is one inference step, which processes a tubelet of consecutive sampled frames. Only one
thread may use a `Perceiver`. Its frames must have passed a `StampFilter`; a frame with another
reset counter than the previous frame of its camera resets the state of the camera.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError, NoFrameError, NotStoredError
from vljepa_ros.core.images import check_rgb, fit
from vljepa_ros.core.protocols import Vision, cannot_read
from vljepa_ros.core.settings import (
    EVER_NS,
    MAX_PROMPTS,
    PerceptionSettings,
    check_prompts,
    check_span,
    check_text,
)
from vljepa_ros.core.types import WITHHELD, Embedding, Frame, Slot, StreamKey
from vljepa_ros.core.vectors import as_sent, pooled
from vljepa_ros.memory.frame_store import FrameStore, StoredHop
from vljepa_ros.stream.frame_sampler import FrameSampler

MAX_SPAN_HOPS = 64  # longest span of the past that is evaluated completely, in hops
MAX_WINDOWS = 16  # maximum number of attention windows that are evaluated in a longer span
# A camera is slow if STILL consecutive tubelets repeat a frame at the same phase of the grid,
# within 1/SAME_PHASE of its period.
STILL, SAME_PHASE = 3, 8

NO_FRAME = 'no frame has been encoded yet: the model cannot predict'

Steps = Generator[None, None, 'Prediction']


@dataclass(frozen=True)
class WindowPrediction:
    """Answer embeddings (P, D) of P prompts for a span of at most one attention window.

    `start_ns` and `end_ns`: stamps of the oldest and newest frame. `unfamiliar`: how unfamiliar
    the scene is to the model, 0..1, mean over the evaluated hops.
    """

    start_ns: int
    end_ns: int
    vectors: NDArray[np.float32]
    unfamiliar: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """Answer embeddings of one camera: one window for now, one or more for the past."""

    source: str
    model_id: str
    windows: tuple[WindowPrediction, ...]

    @property
    def stamp_ns(self) -> int:
        """Stamp of the newest evaluated frame."""
        return self.windows[-1].end_ns

    @property
    def window_start_ns(self) -> int:
        """Stamp of the oldest evaluated frame."""
        return self.windows[0].start_ns

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Answer embeddings (P, D), pooled over the windows."""
        vectors = [window.vectors for window in self.windows]
        return pooled(vectors) if len(vectors) > 1 else vectors[0]


class _CameraState:
    """State of one camera: everything that depends on its past frames."""

    def __init__(self, vision: Vision, sampler: FrameSampler, reset_count: int) -> None:
        self.sampler = sampler
        self.reset_count = reset_count
        self.skipped = 0
        self._vision = vision
        self.restart()

    def restart(self) -> None:
        """Reset the visual state, the sampler and all pending slots."""
        self.skipped += self.sampler.skipped
        self.sampler.reset()
        self.sampler.skipped = 0
        self.hops = 0
        self.pending: list[Slot] = []
        self._last_ns: int | None = None
        self._still_ns: list[int] = []
        self.starts_ns: deque[int] = deque(maxlen=self._vision.facts.window_tubelets)
        self.state: Any = self._vision.new_state()
        self.unfamiliar = 0.0  # the newest hop
        self.stamp_ns: int | None = None

    def takes(self, slot: Slot, period_ns: int, dropped: bool = False) -> bool:
        """Return whether to use a slot; for a slow camera, some slots are skipped to show motion.

        If a camera has half or a quarter of the model's rate, each new frame can begin a tubelet
        of two frames and fill both of its slots, as if nothing moved. Skipping one slot shifts the
        tubelets, so that a new frame ends a tubelet that began with the previous frame.

        Args:
            slot: The next slot of the sampling grid.
            period_ns: Spacing of the grid.
            dropped: Whether frames before the slot were dropped; the slot then does not show the
                rate of the camera, and is always used.
        """
        last_ns, self._last_ns = self._last_ns, slot.stamp_ns
        if slot.stamp_ns == last_ns and not dropped:
            return True
        if dropped or len(self.pending) % 2 or self._vision.facts.tubelet_frames % 2:
            self._still_ns.clear()
            return True
        phase_ns = slot.slot_ns - slot.stamp_ns
        if self._still_ns and abs(phase_ns - self._still_ns[0]) > period_ns // SAME_PHASE:
            self._still_ns.clear()
        self._still_ns.append(phase_ns)
        if len(self._still_ns) < STILL:
            return True
        self._still_ns.clear()
        return False

    def step(self, tubelet: tuple[Slot, ...]) -> None:
        """Advance the visual state by one tubelet."""
        self._vision.step(self.state, [slot.image for slot in tubelet])
        self.unfamiliar = as_sent(self._vision.unfamiliar(self.state))
        self.hops += 1
        self.starts_ns.append(tubelet[0].stamp_ns)
        self.stamp_ns = tubelet[-1].stamp_ns


class Perceiver:
    """Computes embeddings from the frames of all cameras; counts `hops` and `skipped_slots`."""

    def __init__(
        self,
        vision: Vision,
        settings: PerceptionSettings | None = None,
        frame_store: FrameStore | None = None,
        check_readable: bool = True,
    ) -> None:
        """Create a perceiver without cameras.

        Args:
            vision: Vision side of the model.
            settings: Standing prompts and sampling.
            frame_store: Stores frames, so that `predict` can evaluate spans of the past; optional.
            check_readable: Whether to refuse standing prompts that the model cannot read.

        Raises:
            InputError: The model cannot encode or cannot read a standing prompt.
        """
        self._vision, self._settings = vision, settings or PerceptionSettings()
        self._check_readable = check_readable
        self.frame_store = frame_store
        rate = self._settings.rate
        self._period_ns = round(1e9 / rate) if rate else vision.facts.frame_period_ns
        self._cameras: dict[str, _CameraState] = {}
        self._prompts = self.check_prompts(self._settings.prompts)
        self.hops = 0

    @property
    def prompts(self) -> tuple[str, ...]:
        """The standing prompts."""
        return self._prompts

    def set_prompts(self, prompts: Sequence[str]) -> None:
        """Replace all standing prompts.

        Raises:
            InputError: A prompt is invalid or unreadable, or there are too many; the old prompts
                stay in use.
        """
        self._prompts = self.check_prompts(prompts)

    def check_prompts(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return the prompts as a tuple if the model can encode and read them.

        Callable from any thread.

        Raises:
            InputError: A prompt is invalid or unreadable, or there are too many.
        """
        checked = check_prompts(prompts)
        self._vision.check_prompts(checked)
        written = [text for text in checked if text.strip() and self._check_readable]
        unreadable = [text for text in written if self._vision.unreadable(text) >= WITHHELD]
        if unreadable:
            raise InputError(f'standing prompt: {cannot_read(self._vision.facts, unreadable)}')
        return checked

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the cameras from which a frame was received."""
        return tuple(self._cameras)

    def hop_start_ns(self, source: str) -> int:
        """Return the stamp of the oldest frame in a camera's newest hop, which must exist."""
        return self._cameras[source].starts_ns[-1]

    @property
    def skipped_slots(self) -> int:
        """Number of slots of the sampling grid that were skipped for lack of a frame."""
        return sum(c.skipped + c.sampler.skipped for c in self._cameras.values())

    def reset(self) -> None:
        """Discard the state of all cameras."""
        self._cameras.clear()

    def push(self, frame: Frame, reset_count: int = 0) -> list[Embedding]:
        """Process a frame and return the new embeddings, sorted by hop and then by prompt."""
        return [embedding for hop in self.see(frame, reset_count) for embedding in hop]

    def see(
        self, frame: Frame, reset_count: int = 0, dropped: bool = False
    ) -> Iterator[list[Embedding]]:
        """Process a frame and yield the embeddings of each completed hop, one per standing prompt.

        Args:
            frame: The frame.
            reset_count: Reset counter of its camera; a new value resets the camera's state.
            dropped: Whether frames before this frame were dropped for lack of time. The frame then
                completes at most one hop, to limit latency.

        Raises:
            InputError: The image is not (H, W, 3) uint8.
        """
        image = self._checked(frame)
        camera = self._cameras.get(frame.source)
        if camera is None:
            sampler = FrameSampler(self._period_ns, self._settings.max_gap_ns)
            camera = _CameraState(self._vision, sampler, reset_count)
            self._cameras[frame.source] = camera
        if camera.reset_count != reset_count:
            camera.restart()
            camera.reset_count = reset_count
        length = self._vision.facts.tubelet_frames
        most = length - len(camera.pending) if dropped else None
        for slot in camera.sampler.push(frame.stamp_ns, image, most):
            if not camera.takes(slot, self._period_ns, dropped):
                continue
            camera.pending.append(slot)
            if len(camera.pending) == length:
                tubelet, camera.pending = tuple(camera.pending), []
                camera.step(tubelet)
                self.hops += 1
                yield self._embed(frame.source, camera)
                if self.frame_store is not None:
                    self.frame_store.add(frame.source, tubelet, reset_count, camera.hops)

    def predict(
        self, source: str, prompts: Sequence[str], start_ns: int = 0, end_ns: int = 0
    ) -> Prediction:
        """Predict answer embeddings for prompts about now or about a span of the past.

        Args:
            source: Name of the camera; '' for the only camera.
            prompts: P prompts.
            start_ns: Start of the span; 0 for an open start.
            end_ns: End of the span; 0 for an open end. If both are 0, the prompts are about now.

        Raises:
            InputError: The source is unknown, or a prompt or the span is invalid.
            NotStoredError: No frames of the span are stored.
            NoFrameError: No hop of the camera is complete yet.
        """
        steps = self.predicting(source, prompts, start_ns, end_ns)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: Prediction = end.value
                return found

    def predicting(
        self, source: str, prompts: Sequence[str], start_ns: int = 0, end_ns: int = 0
    ) -> Steps:
        """Run `predict` as a generator that yields after each hop and returns the `Prediction`.

        The caller can process live frames between two steps.
        """
        self._check_asked(prompts)
        if start_ns == 0 and end_ns == 0:
            source, camera = self._camera(source)
            vectors = self._vision.predict(camera.state, prompts)
            now = WindowPrediction(
                camera.starts_ns[0], camera.stamp_ns or 0, vectors, camera.unfamiliar
            )
            windows: tuple[WindowPrediction, ...] = (now,)
        else:
            source = self._stored_source(source)
            windows = yield from self._evaluate_past(source, prompts, start_ns, end_ns)
        return Prediction(source, self._vision.facts.model_id, windows)

    def _check_asked(self, prompts: Sequence[str]) -> None:
        if len(prompts) > MAX_PROMPTS:
            raise InputError(f'{len(prompts):,} prompts are too many (at most {MAX_PROMPTS})')
        for prompt in prompts:
            check_text(prompt)
        self._vision.check_prompts(prompts)

    def _checked(self, frame: Frame) -> NDArray[np.uint8]:
        return fit(check_rgb(frame.image), self._vision.facts.image_size)

    def _embed(self, source: str, camera: _CameraState) -> list[Embedding]:
        if not self._prompts:
            return []
        vectors = self._vision.predict(camera.state, self._prompts)
        assert camera.stamp_ns is not None
        return [
            Embedding(
                camera.stamp_ns,
                camera.starts_ns[0],
                StreamKey(source, prompt, self._vision.facts.model_id),
                vector,
                camera.reset_count,
                camera.unfamiliar,
            )
            for prompt, vector in zip(self._prompts, vectors, strict=True)
        ]

    def _camera(self, source: str) -> tuple[str, _CameraState]:
        source = _one_of(self.sources, source)
        camera = self._cameras.get(source)
        if camera is None or camera.stamp_ns is None:
            raise NoFrameError(NO_FRAME)
        return source, camera

    # Spans of the past.

    def _stored_source(self, source: str) -> str:
        """Return the name of a camera with received or stored frames; '' selects the only camera.

        Raises:
            InputError: The name is unknown, or '' is ambiguous.
            NoFrameError: There is no camera yet.
        """
        stored = self.frame_store.sources if self.frame_store is not None else ()
        source = _one_of(tuple(dict.fromkeys((*self.sources, *stored))), source)
        if not source:
            raise NoFrameError(NO_FRAME)
        return source

    def _evaluate_past(
        self, source: str, prompts: Sequence[str], start_ns: int, end_ns: int
    ) -> Generator[None, None, tuple[WindowPrediction, ...]]:
        """Evaluate stored frames: all hops of a short span, selected windows of a long span."""
        check_span(start_ns, end_ns)
        end_ns = end_ns or EVER_NS
        frame_store = self.frame_store
        hops = frame_store.hops(source, start_ns, end_ns, MAX_SPAN_HOPS + 1) if frame_store else []
        if frame_store is None or not hops:
            raise NotStoredError(self._not_stored(source, start_ns, end_ns))
        window = self._vision.facts.window_tubelets
        runs = _runs(hops)
        windows = list[WindowPrediction]()
        if len(hops) <= MAX_SPAN_HOPS and len(runs) <= MAX_WINDOWS:
            for run in runs:
                earlier = frame_store.before(run[0], window)
                windows += yield from self._evaluate_hops(frame_store, earlier, run, prompts)
        else:
            for hop in frame_store.landmarks(source, start_ns, end_ns, MAX_WINDOWS):
                earlier = frame_store.before(hop, window - 1)
                [prediction] = yield from self._evaluate_hops(frame_store, earlier, [hop], prompts)
                windows.append(replace(prediction, start_ns=[*earlier, hop][0].start_ns))
        return tuple(windows)

    def _evaluate_hops(
        self,
        frame_store: FrameStore,
        earlier: Sequence[StoredHop],
        run: Sequence[StoredHop],
        prompts: Sequence[str],
    ) -> Generator[None, None, list[WindowPrediction]]:
        """Evaluate the hops `run`, with `earlier` as context, and pool the vectors per window."""
        window, state = self._vision.facts.window_tubelets, self._vision.new_state()
        vectors, unfamiliar = list[NDArray[np.float32]](), list[float]()
        for number, hop in enumerate([*earlier, *run]):
            self._vision.step(state, frame_store.images(hop))
            if number >= len(earlier):
                vectors.append(self._vision.predict(state, prompts))
                unfamiliar.append(self._vision.unfamiliar(state))
            yield
        return [
            WindowPrediction(
                run[first].start_ns,
                run[min(first + window, len(run)) - 1].stamp_ns,
                pooled(vectors[first : first + window]),
                as_sent(np.mean(unfamiliar[first : first + window])),
            )
            for first in range(0, len(run), window)
        ]

    def _not_stored(self, source: str, start_ns: int, end_ns: int) -> str:
        stored = self.frame_store.span(source) if self.frame_store is not None else None
        until = 'now' if end_ns == EVER_NS else f'{end_ns / 1e9:.3f} s'
        span = f'{stored[0] / 1e9:.3f}..{stored[1] / 1e9:.3f} s' if stored else 'none'
        return f'no frames from {start_ns / 1e9:.3f} s to {until} are stored (stored: {span})'


def _one_of(known: tuple[str, ...], source: str) -> str:
    """Return `source`, or the only known camera for ''; return '' if no camera is known.

    Raises:
        InputError: The name is unknown, or '' is ambiguous.
    """
    names = ', '.join(known)
    if source == '':
        if len(known) > 1:
            raise InputError(f'source is empty, but there are several cameras (known: {names})')
        return known[0] if known else ''
    if known and source not in known:
        raise InputError(f"unknown source '{source}' (known: {names})")
    return source if known else ''


def _runs(hops: Sequence[StoredHop]) -> list[list[StoredHop]]:
    """Split hops into lists of adjacent hops."""
    runs = [[hops[0]]]
    for before, hop in zip(hops, hops[1:], strict=False):
        if hop.follows(before):
            runs[-1].append(hop)
        else:
            runs.append([hop])
    return runs
