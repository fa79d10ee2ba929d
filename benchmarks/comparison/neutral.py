# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.comparison.neutral`: train an X-Encoder that favors no arm.

It has the architecture of models/small and is trained to predict the simulator's state with linear
heads on the mean and the maximum of its tokens: how far objects are open, and class numbers of the
objects in the scene. It uses no texts, tasks or phases. Training starts with single tubelets,
which are cheap, and continues with windows. Then the features of every stream are written, as in
streaming: <out>/features/<split>/<stream>.npy, float16 (T, N, D).

Shapes: B clips or streams, T tubelets, F frames per tubelet, S image side, N tokens, D width,
K length of `SCENE`, C total number of classes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import run
from benchmarks.comparison.settings import STREAMS, Settings
from vljepa_ros.cli.common import note
from vljepa_ros.cli.main import Parser
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.x_encoder import XEncoder
from vljepa_ros.train.augmentation import augment
from vljepa_ros.train.optimizer import autocast, groups, rate
from vljepa_ros.train.vision_stage import state_loss

STATE = ('gripper', 'contact', 'holding', 'opening', 'light', 'cover')  # of state.npz, all 0..1
SCENE = ('object', 'colour', 'thing')  # fields of annotations
HIDDEN = -1  # class of an invisible object
SHORT, SHORT_CLIPS, CLIPS = 0.6, 48, 6  # fraction of steps with single tubelets; clips per step
RATE, WARMUP, DECAY = 1e-3, 100, 0.05
BATCH = 16  # streams per batch
CPU = torch.device('cpu')


class Clips:
    """Draws clips uniformly from all moments of all streams."""

    def __init__(self, streams: Sequence[Stream], config: ModelConfig, seed: int) -> None:
        self._frames = [stream.frames() for stream in streams]
        self._state = [state_of(stream) for stream in streams]
        self.classes = classes_of(streams)
        self._scene = [scene_of(stream, self.classes) for stream in streams]
        self._per = config.time.tubelet_frames
        self._rng = np.random.default_rng(seed)

    def draw(self, count: int, tubelets: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw frames (B, T, F, S, S, 3) uint8 with final state (B, T, 6) and scene (B, T, K)."""
        clips, state, scene, length = [], [], [], tubelets * self._per
        for _ in range(count):
            number = int(self._rng.integers(len(self._frames)))
            frames = self._frames[number]
            first = int(self._rng.integers(len(frames) - length + 1))
            clips.append(augment(np.asarray(frames[first : first + length]), self._rng))
            ends = slice(first + self._per - 1, first + length, self._per)
            state.append(self._state[number][ends])
            scene.append(self._scene[number][ends])
        shown = torch.from_numpy(np.stack(clips)).unflatten(1, (tubelets, self._per))
        return shown, torch.from_numpy(np.stack(state)), torch.from_numpy(np.stack(scene))


def state_of(stream: Stream) -> NDArray[np.float32]:
    """Return the values (T, 6) of `STATE` at every frame; NaN if they are unknown."""
    told, unknown = stream.state(), np.full(stream.frame_count, np.nan)
    return np.stack([told.get(name, unknown).astype(np.float32) for name in STATE], axis=1)


def classes_of(streams: Sequence[Stream]) -> list[list[str]]:
    """Return the possible values of each field of `SCENE`."""
    items = [item for stream in streams for item in stream.annotations]
    return [sorted({getattr(item, name) for item in items}) for name in SCENE]


def scene_of(stream: Stream, classes: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the classes (T, K) of `SCENE` at every frame; `HIDDEN` in the dark."""
    found = np.full((stream.frame_count, len(SCENE)), HIDDEN, np.int64)
    at_s = (stream.stamps_ns() - stream.stamps_ns()[0]) / SECOND_NS
    for item in stream.annotations:
        if item.light and not item.covered:
            inside = (item.start <= at_s) & (at_s < item.end)
            found[inside] = [
                own.index(getattr(item, name)) for name, own in zip(SCENE, classes, strict=True)
            ]
    return found


def scene_loss(predicted: Tensor, scene: Tensor, sizes: Sequence[int]) -> Tensor:
    """Compute the cross-entropy of logits (M, C) and classes (M, K), without hidden ones."""
    parts = predicted.split(list(sizes), dim=-1)
    each = [
        functional.cross_entropy(part, scene[:, k], ignore_index=HIDDEN, reduction='sum')
        for k, part in enumerate(parts)
    ]
    return torch.stack(each).sum() / (scene != HIDDEN).sum().clamp(min=1)


def train_encoder(
    streams: Sequence[Stream], config: ModelConfig, steps: int, seed: int = 0
) -> XEncoder:
    """Train an X-Encoder on the state of `streams`."""
    torch.manual_seed(seed)
    encoder, clips = XEncoder(config.x_encoder, config.time), Clips(streams, config, seed)
    sizes = [len(own) for own in clips.classes]
    heads = nn.Linear(2 * config.x_encoder.width, len(STATE) + sum(sizes))
    trained = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(groups(trained, DECAY), betas=(0.9, 0.98))
    total = np.zeros(2)
    for step in range(steps):
        size = (SHORT_CLIPS, 1) if step < SHORT * steps else (CLIPS, config.time.window_tubelets)
        frames, state, scene = clips.draw(*size)
        with autocast(CPU, True):
            tokens = encoder(frames)
            seen = torch.cat([tokens.mean(dim=2), tokens.amax(dim=2)], dim=-1)
            told = heads(seen).float().flatten(0, 1)
        parts = (
            state_loss(told[:, : len(STATE)], state.flatten(0, 1)),
            scene_loss(told[:, len(STATE) :], scene.flatten(0, 1), sizes),
        )
        loss = parts[0] + parts[1]
        for group in optimizer.param_groups:
            group['lr'] = rate(RATE, step, WARMUP, steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        total += [part.item() for part in parts]
        if (step + 1) % 100 == 0:
            state_nats, scene_nats = total / 100
            note(
                f'{step + 1} of {steps}: cross-entropy of the scene {scene_nats:.4f}, '
                f'of the state {state_nats:.4f}'
            )
            total[:] = 0.0
    return encoder.eval()


@torch.inference_mode()
def features(encoder: XEncoder, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Encode streams (B, frames, S, S, 3) to (B, T, N, D), exactly as in streaming."""
    per = encoder.time.tubelet_frames
    caches: list[KeyValue | None] = [None] * len(encoder.blocks)
    found = []
    for at in range(0, frames.shape[1] - per + 1, per):
        tokens, caches = encoder.step(torch.from_numpy(frames[:, at : at + per].copy()), caches)
        found.append(tokens.half().numpy())
    return np.stack(found, axis=1)


def write_features(encoder: XEncoder, streams: Sequence[Stream], folder: Path) -> None:
    """Write one file per stream; keep existing files."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in streams if not (folder / f'{s.name}.npy').is_file()]
    start, done = time.monotonic(), 0
    for part in _equal_length_batches(missing):
        found = features(encoder, np.stack([np.asarray(s.frames()) for s in part]))
        for stream, rows in zip(part, found, strict=True):
            partial = folder / f'.{stream.name}.npy'
            np.save(partial, rows)
            partial.rename(folder / f'{stream.name}.npy')
        done += len(part)
        note(f'{folder}: {done} of {len(missing)} streams, {time.monotonic() - start:.0f} s')


def _equal_length_batches(streams: Sequence[Stream]) -> Iterator[list[Stream]]:
    """Yield batches of at most `BATCH` streams of equal length."""
    for length in sorted({s.frame_count for s in streams}):
        part = [s for s in streams if s.frame_count == length]
        yield from (part[i : i + BATCH] for i in range(0, len(part), BATCH))


def _arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, default=Settings.data, help='folder of the splits')
    parser.add_argument('--out', type=Path, default=Settings.out)
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: 1)')
    parser.add_argument('--splits', nargs='+', default=['train', 'validation'], metavar='SPLIT')
    return parser.parse_args()


def main() -> None:
    """Train the X-Encoder if it is missing, and write missing features. Raises VljepaError."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    config, path = Settings().model, args.out / 'neutral.pt'
    if not path.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        streams = open_split(args.data / 'train').streams
        torch.save(train_encoder(streams, config, args.steps).state_dict(), path)
    encoder = XEncoder(config.x_encoder, config.time).eval()
    encoder.load_state_dict(torch.load(path, weights_only=True))
    for split in args.splits:
        streams = open_split(args.data / split).streams[: STREAMS.get(split)]
        write_features(encoder, streams, args.out / 'features' / split)


if __name__ == '__main__':
    sys.exit(run(main))
