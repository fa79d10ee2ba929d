# SPDX-License-Identifier: Apache-2.0
"""Eyes over any number of cameras: frames in, one embedding a hop and standing prompt out.

One thread owns a `Perceiver`. Stamps have been judged by an `Intake` before; a frame of another
reset count than the one before it resets its camera.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError, NoFrameError, NotStoredError
from vljepa_ros.core.images import fit
from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.settings import (
    MAX_PROMPTS,
    PerceptionSettings,
    check_prompts,
    check_span,
    check_text,
)
from vljepa_ros.core.types import EVER_NS, Embedding, Frame, Slot, StreamKey
from vljepa_ros.core.vectors import as_sent, pooled
from vljepa_ros.memory.frame_store import FrameStore, Hop
from vljepa_ros.stream.frame_sampler import FrameSampler

MAX_SPAN_HOPS = 64  # of a span that is looked at whole
MAX_LOOKS = 16  # windows of a longer one
STILL, SAME_PHASE = 3, 8  # frames; within this part of the grid's period

Steps = Generator[None, None, 'Prediction']


@dataclass(frozen=True)
class Look:
    """A span of at most one window, from its oldest to its newest frame, and answers (P, D).

    `unfamiliar`: 0..1, mean over its hops.
    """

    start_ns: int
    end_ns: int
    vectors: NDArray[np.float32]
    unfamiliar: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """Answer embeddings of one source: one look at now, one or several at the past."""

    source: str
    model_id: str
    looks: tuple[Look, ...]

    @property
    def stamp_ns(self) -> int:
        """Of the newest frame looked at."""
        return self.looks[-1].end_ns

    @property
    def window_start_ns(self) -> int:
        """Of the oldest frame looked at."""
        return self.looks[0].start_ns

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(P, D), pooled over the looks."""
        vectors = [look.vectors for look in self.looks]
        return pooled(vectors) if len(vectors) > 1 else vectors[0]


class _Camera:
    """Everything that depends on one camera's past."""

    def __init__(self, vision: Vision, sampler: FrameSampler, reset_count: int) -> None:
        self.sampler = sampler
        self.reset_count = reset_count
        self.skipped = 0
        self._vision = vision
        self.restart()

    def restart(self) -> None:
        """Forget what was seen."""
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
        """Whether a slot counts: one is left out where new frames keep beginning tubelets of two.

        Such a camera has half the model's rate, or a quarter. Each of its tubelets would hold one
        frame twice, as if nothing moved; by a slot later each ends with the next. What comes after
        `dropped` frames tells nothing of the camera.
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
        """See one tubelet."""
        self._vision.step(self.state, [slot.image for slot in tubelet])
        self.unfamiliar = as_sent(self._vision.unfamiliar(self.state))
        self.hops += 1
        self.starts_ns.append(tubelet[0].stamp_ns)
        self.stamp_ns = tubelet[-1].stamp_ns


class Perceiver:
    """The eyes of all cameras. Counters: `hops`, `skipped_slots`."""

    def __init__(
        self,
        vision: Vision,
        settings: PerceptionSettings | None = None,
        frame_store: FrameStore | None = None,
    ) -> None:
        """`footage` keeps the frames of the past that `predict` can look at again."""
        self._vision, self._settings = vision, settings or PerceptionSettings()
        self.frame_store = frame_store
        rate = self._settings.rate
        self._period_ns = round(1e9 / rate) if rate else vision.facts.frame_period_ns
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
        self._vision.check_prompts(checked)
        return checked

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras seen so far."""
        return tuple(self._cameras)

    def hop_start_ns(self, source: str) -> int:
        """The oldest frame's stamp in the newest hop of a source; there must be one."""
        return self._cameras[source].starts_ns[-1]

    @property
    def skipped_slots(self) -> int:
        """Slots of the grid that were not filled: no frame was near, or theirs were dropped."""
        return sum(c.skipped + c.sampler.skipped for c in self._cameras.values())

    def reset(self) -> None:
        """Forget all cameras."""
        self._cameras.clear()

    def push(self, frame: Frame, reset_count: int = 0) -> list[Embedding]:
        """The embeddings that this frame completes, by hop and then by prompt."""
        return [embedding for hop in self.see(frame, reset_count) for embedding in hop]

    def see(
        self, frame: Frame, reset_count: int = 0, dropped: bool = False
    ) -> Iterator[list[Embedding]]:
        """Each hop that this frame completes, as soon as it is done: its embeddings by prompt.

        `dropped` says that frames before this one were, for lack of time: then it completes one
        hop at most, so that what is seen stays near to now.
        """
        image = self._checked(frame)
        camera = self._cameras.get(frame.source)
        if camera is None:
            sampler = FrameSampler(self._period_ns, self._settings.max_gap_ns)
            camera = _Camera(self._vision, sampler, reset_count)
            self._cameras[frame.source] = camera
        if camera.reset_count != reset_count:
            camera.restart()
            camera.reset_count = reset_count
        length = self._vision.facts.tubelet_frames
        room = length - len(camera.pending) if dropped else None
        for slot in camera.sampler.push(frame.stamp_ns, image, room):
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
        """Answers to prompts about now, or about a span of the past (0 = now).

        Raises:
            InputError: an unknown source or a bad prompt; NotStoredError for a span of which no
                frames are stored.
            NoFrameError: no hop is complete yet.
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
        """`predict` in steps of a hop each, between which the stream may go on."""
        self._check_asked(prompts)
        if start_ns == 0 and end_ns == 0:
            source, camera = self._camera(source)
            vectors = self._vision.predict(camera.state, prompts)
            now = Look(camera.starts_ns[0], camera.stamp_ns or 0, vectors, camera.unfamiliar)
            looks: tuple[Look, ...] = (now,)
        else:
            source = self._kept_source(source)
            looks = yield from self._look_back(source, prompts, start_ns, end_ns)
        return Prediction(source, self._vision.facts.model_id, looks)

    def _check_asked(self, prompts: Sequence[str]) -> None:
        if len(prompts) > MAX_PROMPTS:
            raise InputError(f'{len(prompts):,} prompts are too many (at most {MAX_PROMPTS})')
        for prompt in prompts:
            check_text(prompt)
        self._vision.check_prompts(prompts)

    def _checked(self, frame: Frame) -> NDArray[np.uint8]:
        image = frame.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(f'frame of shape {image.shape} {image.dtype} is not (H, W, 3) uint8')
        return fit(image, self._vision.facts.image_size)

    def _embed(self, source: str, camera: _Camera) -> list[Embedding]:
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

    def _camera(self, source: str) -> tuple[str, _Camera]:
        source = _one_of(self.sources, source)
        camera = self._cameras.get(source)
        if camera is None or camera.stamp_ns is None:
            raise NoFrameError('no frame yet: the model has seen nothing')
        return source, camera

    # The past.

    def _kept_source(self, source: str) -> str:
        """What was seen before a restart counts, too."""
        kept = self.frame_store.sources if self.frame_store is not None else ()
        source = _one_of(tuple(dict.fromkeys((*self.sources, *kept))), source)
        if not source:
            raise NoFrameError('no frame yet: the model has seen nothing')
        return source

    def _look_back(
        self, source: str, prompts: Sequence[str], start_ns: int, end_ns: int
    ) -> Generator[None, None, tuple[Look, ...]]:
        """Stream kept frames again: all of a short span, or a window of each of its segments."""
        check_span(start_ns, end_ns)
        end_ns = end_ns or EVER_NS
        frame_store = self.frame_store
        hops = frame_store.hops(source, start_ns, end_ns, MAX_SPAN_HOPS + 1) if frame_store else []
        if frame_store is None or not hops:
            raise NotStoredError(self._not_stored(source, start_ns, end_ns))
        window = self._vision.facts.window_tubelets
        runs = _runs(hops)
        looks = list[Look]()
        if len(hops) <= MAX_SPAN_HOPS and len(runs) <= MAX_LOOKS:
            for run in runs:
                earlier = frame_store.before(run[0], window)
                looks += yield from self._see_again(frame_store, earlier, run, prompts)
        else:
            for hop in frame_store.landmarks(source, start_ns, end_ns, MAX_LOOKS):
                earlier = frame_store.before(hop, window - 1)
                [look] = yield from self._see_again(frame_store, earlier, [hop], prompts)
                looks.append(replace(look, start_ns=[*earlier, hop][0].start_ns))
        return tuple(looks)

    def _see_again(
        self,
        frame_store: FrameStore,
        earlier: Sequence[Hop],
        run: Sequence[Hop],
        prompts: Sequence[str],
    ) -> Generator[None, None, list[Look]]:
        """Stream hops again, after those before them; pool the answers window by window."""
        window, state = self._vision.facts.window_tubelets, self._vision.new_state()
        vectors, unfamiliar = list[NDArray[np.float32]](), list[float]()
        for number, hop in enumerate([*earlier, *run]):
            self._vision.step(state, frame_store.images(hop))
            if number >= len(earlier):
                vectors.append(self._vision.predict(state, prompts))
                unfamiliar.append(self._vision.unfamiliar(state))
            yield
        return [
            Look(
                run[first].start_ns,
                run[min(first + window, len(run)) - 1].stamp_ns,
                pooled(vectors[first : first + window]),
                as_sent(np.mean(unfamiliar[first : first + window])),
            )
            for first in range(0, len(run), window)
        ]

    def _not_stored(self, source: str, start_ns: int, end_ns: int) -> str:
        held = self.frame_store.span(source) if self.frame_store is not None else None
        until = 'now' if end_ns == EVER_NS else f'{end_ns / 1e9:.3f} s'
        known = f'{held[0] / 1e9:.3f}..{held[1] / 1e9:.3f} s' if held else 'none'
        return f'no frames of {start_ns / 1e9:.3f} s to {until} are stored (stored: {known})'


def _one_of(known: tuple[str, ...], source: str) -> str:
    """The source that is meant; '' where there is none. Raises InputError."""
    names = ', '.join(known)
    if source == '':
        if len(known) > 1:
            raise InputError(f'several sources are seen, name one (known: {names})')
        return known[0] if known else ''
    if known and source not in known:
        raise InputError(f"unknown source '{source}' (known: {names})")
    return source if known else ''


def _runs(hops: Sequence[Hop]) -> list[list[Hop]]:
    """The stretches that were seen without a gap."""
    runs = [[hops[0]]]
    for before, hop in zip(hops, hops[1:], strict=False):
        if hop.follows(before):
            runs[-1].append(hop)
        else:
            runs.append([hop])
    return runs
