# SPDX-License-Identifier: Apache-2.0
"""Labels of recorded episodes: the phase of every frame, and the annotations of a stream.

If several labels apply, the first of these is used: `covered`, `dark`, `appear` or `gone`, the
phase of the task. No simulator is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.lens import COVERED_ABOVE, DARK_BELOW, Level
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.data.simulators.mwstream.record import Episode, Prop
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, UNSEEN, meaning_of

RATE_HZ = 10
PERIOD_NS = 1_000_000_000 // RATE_HZ
FIRST_STAMP_NS = 1_000_000_000
LEAD_FRAMES = 10  # the last second before success is labeled `act`
SHORTEST_FRAMES = 8  # a phase shorter than 0.8 s is merged into the next
SEEN_FRAMES = 10  # the labels `appear` and `gone` last one second
KEPT = (*UNSEEN, 'appear', 'gone')  # labels that are never merged, however short


@dataclass(frozen=True)
class FrameLabels:
    """Labels of one frame.

    Attributes:
        key: Concept id.
        phase: Phase of the task, or 'appear' or 'gone'.
        episode: Number of the episode in the stream.
        task: Name of the task.
        colour: Color of the task's object.
        object_state: State of the object, or ''.
        thing: Distractor, such as 'blue tin', or ''.
    """

    key: str
    phase: str
    episode: int
    task: str
    colour: str
    object_state: str
    thing: str


def stamps_ns(frames: int) -> NDArray[np.int64]:
    """Return the stamps (T,) of a stream in nanoseconds, `PERIOD_NS` apart."""
    return FIRST_STAMP_NS + PERIOD_NS * np.arange(frames, dtype=np.int64)


def phases(count: int, contact: int, moved: int, success: int) -> list[str]:
    """Return the phase of each frame of an attempt (`reach`, `contact`, `act` or `done`).

    Args:
        count: Number of frames.
        contact: Frame number of the first contact; -1 if there is none.
        moved: Frame number of the object's first movement; -1 if there is none.
        success: Frame number of the success; -1 if there is none.
    """
    end = success if success >= 0 else count
    act = moved if moved >= 0 else end
    if success >= 0:
        act = min(act, max(0, success - LEAD_FRAMES))
    touch = min(contact, act) if contact >= 0 else act
    if act - touch < SHORTEST_FRAMES:
        touch, act = (touch, touch) if act < end else (act, act)
    if touch < SHORTEST_FRAMES:
        touch, act = 0, act if act >= SHORTEST_FRAMES else 0
    names = ['reach'] * touch + ['contact'] * (act - touch) + ['act'] * (end - act)
    return names + ['done'] * (count - end)


def labels_of(episode: Episode, index: int, prop: Prop | None) -> list[FrameLabels]:
    """Return the labels of each frame of an episode, without `dark` and `covered`.

    Args:
        episode: Recorded episode.
        index: Number of the episode in the stream.
        prop: Distractor, if any.
    """
    color, found = episode.plan.colour, []
    count = len(episode.instants)
    for i, (phase, task, instant) in enumerate(
        zip(episode.phases, episode.tasks, episode.instants, strict=True)
    ):
        there = prop.name if prop and prop.first <= i < prop.last else ''
        key, named = meaning_of(task, phase, color), phase
        if prop and 0 <= i - prop.first < SEEN_FRAMES and prop.first > 0:
            key, named = f'appear:{prop.thing.kind}:{prop.thing.colour}', 'appear'
        elif prop and 0 <= i - prop.last < SEEN_FRAMES and prop.last < count:
            key, named = f'gone:{prop.thing.kind}:{prop.thing.colour}', 'gone'
        found.append(FrameLabels(key, named, index, task, color, instant.object_state, there))
    return found


def annotate(labels: list[FrameLabels], light: Level, cover: Level) -> list[Annotation]:
    """Merge the labels of consecutive frames into annotations that cover the stream without gaps.

    A phase shorter than 0.8 s is merged into the next one.

    Args:
        labels: Labels of each frame (T).
        light: Light levels (T,).
        cover: Cover levels (T,).
    """
    keys = [
        ('covered', 'covered', m.episode)
        if covered >= COVERED_ABOVE
        else ('dark', 'dark', m.episode)
        if level < DARK_BELOW
        else (m.key, m.phase, m.episode)
        for m, level, covered in zip(labels, light, cover, strict=True)
    ]
    runs: list[list[int]] = []
    for i, key in enumerate(keys):
        joins = (
            runs and key[:2] == keys[i - 1][:2] and (key[2] == keys[i - 1][2] or key[0] in UNSEEN)
        )
        if joins:
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    return [_annotation(labels, keys[r[2]], r) for r in _join_short(runs, keys)]


def _join_short(runs: list[list[int]], keys: Sequence[tuple[str, str, int]]) -> list[list[int]]:
    """Merge each short phase into the next run, or into the previous run before a `KEPT` label.

    Args:
        runs: First frame and end frame of each run of equal labels.
        keys: Concept id, phase and episode of each frame.

    Returns:
        First frame and end frame of each merged run, and a frame with its label.
    """
    joined: list[list[int]] = []
    pending = -1
    for index, (start, end) in enumerate(runs):
        begin = start if pending < 0 else pending
        pending = -1
        last = index + 1 == len(runs)
        next_kept = not last and keys[runs[index + 1][0]][1] in KEPT
        if end - begin >= SHORTEST_FRAMES or keys[start][1] in KEPT:
            joined.append([begin, end, start])
        elif joined and (last or next_kept):
            joined[-1][1] = end
        elif last or next_kept:
            joined.append([begin, end, start])
        else:
            pending = begin
    return joined


def _annotation(
    labels: list[FrameLabels], key: tuple[str, str, int], run: list[int]
) -> Annotation:
    start, end, named = run
    part, label = labels[start:end], labels[named]
    own = [m for m in part if m.key == key[0]] or part
    states, things = {m.object_state for m in own}, {m.thing for m in own}
    return Annotation(
        start=start / RATE_HZ,
        end=end / RATE_HZ,
        meaning=key[0],
        phase=key[1],
        task=label.task,
        object=TASKS[label.task].object,
        colour=label.colour,
        light=key[0] not in UNSEEN,
        object_state=states.pop() if len(states) == 1 else '',
        success=key[1] == 'done',
        episode=label.episode,
        covered=key[0] == 'covered',
        thing=things.pop() if len(things) == 1 else '',
        text=sentences(key[0])[0],
    )
