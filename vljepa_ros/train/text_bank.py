# SPDX-License-Identifier: Apache-2.0
"""All texts of a training run: meanings with their wordings, and the frozen tower's token states.

A positive is a wording of the same meaning, whatever its string; what also holds ("the drawer is
open" where the red drawer is) is neither a positive nor a negative. A denied sentence is a meaning
of its own (`not:act:drawer-open:red`), which only stage 1 reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.meanings import (
    ANY,
    denials,
    doing,
    meanings,
    sentences,
    without_colour,
)
from vljepa_ros.data.simulators.mwstream.questions import (
    answer_meaning,
    answer_meanings,
    answers,
    full_answers,
    negated_states,
    reached_state,
)
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, TRAIN_TASKS
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train.parallel import Workers

BATCH = 256
LENGTHS = 4  # groups of texts by their length
FIRST_ROWS = 1 << 16  # of token states
FULL_ANSWERS = 300  # whole sentences of yes and of no that are read
NOT = 'not:'


class TextBank:
    """Token states of texts, in float16: `states(texts)` -> (B, L, Dt) float32 and mask (B, L).

    They lie one behind the other in one tensor on the tower's device, which grows.
    """

    def __init__(self, tower: TextTower, limit: int = 64) -> None:
        self._tower, self._limit = tower, limit
        self.device = tower.device
        self._places: dict[str, tuple[int, int]] = {}  # first row and number of rows
        self._used = 0
        with torch.inference_mode(False):  # it is written to in either mode
            self._rows = torch.empty(
                FIRST_ROWS, tower.bert.config.hidden_size, dtype=torch.float16, device=self.device
            )

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states and mask of `texts`, padded to the longest; padding is any state."""
        self.add(texts)
        first, count = np.array([self._places[text] for text in texts]).T[..., None]
        at = np.arange(count.max())
        rows, mask = (
            torch.from_numpy(x).to(self.device)
            for x in (first + np.minimum(at, count - 1), at < count)
        )
        return self._rows[rows].float(), mask

    def alike(self, texts: Sequence[str]) -> list[NDArray[np.intp]]:
        """The rows of `texts` in groups of like lengths: padding costs what words do on a CPU."""
        self.add(texts)
        order = np.argsort([self._places[text][1] for text in texts], kind='stable')
        groups = LENGTHS if self.device.type == 'cpu' else 1
        return np.array_split(order, min(groups, len(texts)))

    def add(self, texts: Sequence[str]) -> None:
        """Compute what is not there yet."""
        missing = sorted({text for text in texts if text not in self._places}, key=len)
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            states, mask = self._tower.states(part, self._limit)
            self._append(part, mask.sum(dim=1).tolist(), states[mask].half())

    def _append(self, texts: Sequence[str], counts: Sequence[int], rows: Tensor) -> None:
        needed = self._used + len(rows)
        with torch.inference_mode(False):
            if needed > len(self._rows):
                grown = self._rows.new_empty(max(needed, 2 * len(self._rows)), rows.shape[1])
                grown[: self._used] = self._rows[: self._used]
                self._rows = grown
            self._rows[self._used : needed] = rows
        for text, count in zip(texts, counts, strict=True):
            self._places[text] = (self._used, count)
            self._used += count

    def prepare(self, texts: Sequence[str], path: Path, workers: Workers) -> None:
        """`add`, by one of the processes, and kept in a file for the others and for later runs."""
        if workers.first and not path.is_file():
            self.add(texts)
            part = path.with_suffix('.part')
            counts = [count for _, count in self._places.values()]
            torch.save((list(self._places), counts, self._rows[: self._used].cpu()), part)
            part.replace(path)
        workers.wait()
        if not self._places:
            self._append(*torch.load(path, weights_only=True))
        self.add(texts)  # those of a changed file of wordings


def in_order(parts: Sequence[Tensor], rows: Sequence[NDArray[np.intp]]) -> Tensor:
    """(N, ...) from its parts, of which each has these rows."""
    back = torch.from_numpy(np.argsort(np.concatenate(rows)))
    return torch.cat(list(parts))[back.to(parts[0].device)]


def thinned(mask: Tensor, dropped: float) -> Tensor:
    """`mask` (N, L) without a random share `dropped` of its tokens; [CLS] stays."""
    kept = torch.rand(mask.shape, device=mask.device) >= dropped
    kept[:, 0] = True
    return mask & kept


def disturbed(states: Tensor, mask: Tensor, noise: float, dropped: float) -> tuple[Tensor, Tensor]:
    """Token states (N, L, Dt) with even noise, and their mask (N, L), thinned.

    `noise` in standard deviations of the states in the mask; `dropped` as of `thinned`.
    """
    if noise:
        states = states + noise * spread(states, mask) * torch.randn_like(states)
    return states, thinned(mask, dropped)


def spread(states: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of the states (N, L, Dt) that are in the mask (N, L)."""
    real = mask[..., None]  # without an index: a GPU need not be waited for
    count = mask.sum() * states.shape[-1]
    mean = (states * real).sum() / count
    return (((states - mean).square() * real).sum() / count).sqrt()


class Meanings:
    """The training meanings and their wordings, and which of them are easily confused.

    `sentences` may be said by the decoder; `read` are further rewordings that are only understood.
    """

    def __init__(
        self,
        told: Mapping[str, tuple[str, ...]] | None = None,
        tasks: tuple[str, ...] = TRAIN_TASKS,
    ) -> None:
        """`told`: what people said of recordings. `tasks`: those of mwstream that are shown."""
        self.sentences: dict[str, tuple[str, ...]] = {}
        self.read: dict[str, tuple[str, ...]] = {}
        self._deniable: set[str] = set()
        if tasks:
            self._add_simulated(tasks)
        self.sentences.update({m: answers(m) for m in ('yes', 'no', 'unknown')})
        self.sentences.update(told or {})
        self.names = list(self.sentences)
        self.number = {name: i for i, name in enumerate(self.names)}
        self._alike: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            for key in _slots(name):
                self._alike.setdefault(key, []).append(name)

    def _add_simulated(self, tasks: tuple[str, ...]) -> None:
        captions = meanings(tasks, held_out_colours=False)
        bare = dict.fromkeys(m for name in captions if (m := without_colour(name)))
        self.sentences.update({m: sentences(m) for m in (*captions, *bare)})
        self.sentences.update(negated_states(tasks))
        self.sentences.update({m: answers(m) for m in answer_meanings(False, tasks)})
        self.read.update(full_answers(np.random.default_rng(0), FULL_ANSWERS, tasks))
        for name in (*captions, *bare):
            self.read[name] = sentences(name, 'read')
            if any(denials(text) for text in self.sentences[name]):
                self._deniable.add(name)
            phase, _, rest = name.partition(':')
            if phase == 'act':
                task, _, colour = rest.rpartition(':')
                self.read[name] += (doing(task, colour).replace(f'{ANY} ', ''),)

    def also_holds(self, names: Sequence[str]) -> Tensor:
        """(names, names) bool: whether the second holds wherever the first does, or may."""
        row = {name: i for i, name in enumerate(names)}
        holds = torch.zeros(len(names), len(names), dtype=torch.bool)
        for name in names:
            for other in _implied(name):
                if other != name and other in row:
                    holds[row[name], row[other]] = holds[row[other], row[name]] = True
        return holds

    def denied(self, meaning: str) -> str:
        """The meaning of its sentences denied; '' where they cannot be."""
        return f'{NOT}{meaning}' if meaning in self._deniable else ''

    def wording(self, meaning: str, rng: np.random.Generator) -> str:
        """One of a meaning's training wordings; half are whole sentences where there are such."""
        if meaning.startswith(NOT):
            ways = [w for t in self.sentences[meaning.removeprefix(NOT)] if (w := denials(t))]
            pool = ways[int(rng.integers(len(ways)))]
            return pool[int(rng.integers(len(pool)))]
        said, read = self.sentences[meaning], self.read.get(meaning, ())
        pool = read if read and rng.random() < min(0.5, len(read) / len(said)) else said
        return pool[int(rng.integers(len(pool)))]

    def negatives(self, present: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
        """`count` meanings that are not present: half differ in one slot from one that is."""
        chosen: set[str] = set()
        anchors = [m for m in present if _slots(m)]
        while len(chosen) < count:
            if anchors and rng.random() < 0.5:
                keys = _slots(str(rng.choice(anchors)))
                pool = self._alike[keys[int(rng.integers(len(keys)))]]
            else:
                pool = self.names
            chosen.add(pool[int(rng.integers(len(pool)))])
            if len(chosen) + len(present) >= len(self.names):
                break
        return sorted(chosen - set(present))


def _slots(meaning: str) -> list[tuple[str, ...]]:
    """The meaning with one slot left open, in each way."""
    parts = meaning.split(':')
    if len(parts) < 3:  # rest and dark; yes and no; the colours; what people told
        return [(parts[0] if len(parts) == 2 else 'bare',)]
    if parts[0] == 'is':
        return [('is', parts[1])]
    return [('phase', *parts[1:]), (parts[0], 'subject', parts[2]), (*parts[:2], 'colour')]


def _implied(meaning: str) -> list[str]:
    """Meanings that may hold where this one does."""
    if not meaning.startswith(NOT):
        return [name for name in (without_colour(meaning), reached_state(meaning)) if name]
    denied = meaning.removeprefix(NOT)
    found = [f'{NOT}{bare}'] if (bare := without_colour(denied)) else []
    phase, _, rest = denied.partition(':')
    task, _, colour = rest.rpartition(':')
    if phase == 'done' and (facts := TASKS[task]).before:
        found.append(f'is:{facts.object}:{facts.before}')
        undone = [
            n for n, t in TASKS.items() if (t.object, t.after) == (facts.object, facts.before)
        ]
        found += [f'done:{name}:{hue}' for name in undone for hue in (colour, ANY)]
    return found


def told_meanings(streams: Sequence[Stream]) -> dict[str, tuple[str, ...]]:
    """What people said of recordings: meaning id -> texts; equal texts are one meaning."""
    found: dict[str, dict[str, None]] = {}
    for stream in streams:
        for item in stream.annotations:
            if item.phase == 'told':
                found.setdefault(item.meaning, {})[item.text] = None
        for asked in stream.told():
            for text in (asked.answer, *asked.candidates):
                found.setdefault(answer_meaning(text), {})[text] = None
    return {name: tuple(texts) for name, texts in found.items() if ':' in name}
