# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.comparison.cost`: measure FLOPs and milliseconds of every untrained arm.

The setup is one thread, float32, one stream and warm caches; the machine should be idle. Questions
are new: their prompts pass through the text tower. A sentence has the mean length of the training
captions. Writes <out>/cost.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import commit, run
from benchmarks.comparison.arms import Arm, EmbeddingArm, Language, TextHead, make_arm
from benchmarks.comparison.marks import PROMPT, candidate_texts
from benchmarks.comparison.settings import ARMS, Plan, Settings
from benchmarks.comparison.training import captions, texts
from vljepa_ros.cli.main import Parser
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.x_encoder import XEncoder
from vljepa_ros.train.text_bank import TextBank

HOPS = 300  # per minute
COUNTS = (1, 10, 100)
REPEATS = 15
MINUTE = 'stream minute, changes in words'

Costs = dict[str, tuple[float, float]]  # GFLOPs and ms


def measure(what: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Return the GFLOPs of one call and its median milliseconds."""
    what()  # warm-up: some work is done once, such as testing whether bfloat16 is faster
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        what()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        what()
        times.append(1e3 * (time.perf_counter() - start))
    return counter.get_total_flops() / 1e9, float(np.median(times))


class Stand:
    """One arm with the warm caches of one stream."""

    def __init__(self, arm: Arm, known: Language, settings: Settings) -> None:
        self.arm, self.known, model = arm, known, settings.model
        side, per = model.x_encoder.image_size, model.time.tubelet_frames
        self._images = torch.zeros(1, per, side, side, 3, dtype=torch.uint8)
        self._encoder = XEncoder(model.x_encoder, model.time).eval()
        self._seen: list[KeyValue | None] = [None] * model.x_encoder.layers
        self._prefix: list[KeyValue | None] = [None] * model.predictor.layers
        for _ in range(model.time.window_tubelets):
            self.hop()
        self.standing, self._mask = known.tower.states([PROMPT], 64)
        lengths = [len(known.vocabulary.tokens(text)) + 1 for text in captions('all')]
        self._steps = round(float(np.mean(lengths)))
        self._texts = candidate_texts()

    def hop(self) -> None:
        """Process the newest tubelet with the X-Encoder and the trunk's visual prefix."""
        visual, self._seen = self._encoder.step(self._images, self._seen)
        self._prefix = self.arm.trunk.step(visual, self._prefix)

    def watch(self) -> Tensor:
        """Answer a standing prompt."""
        return self.arm.trunk.ask(self._prefix, self.standing, self._mask)

    def ask(self) -> Tensor:
        """Answer a new prompt."""
        return self.arm.trunk.ask(self._prefix, *self.known.tower.states([PROMPT], 64))

    def write(self, seen: Tensor) -> None:
        """Decode an answer to text."""
        self.arm.writer.greedy(self.arm.prefix(seen), self._steps)

    def choose(self, count: int) -> None:
        """Answer a new question with `count` new candidates."""
        if isinstance(self.arm, EmbeddingArm) and isinstance(self.arm.texts, TextHead):
            self.arm.texts.bank = TextBank(self.known.tower)  # an empty cache
        self.arm.score(self.ask(), [self._texts[:count]])

    def choose_known(self, vectors: Tensor) -> Tensor:
        """Answer a new question with candidates whose embeddings are cached."""
        return self.ask() @ vectors.T


def costs(stand: Stand, changes: float, repeats: int = REPEATS) -> Costs:
    """Measure all operations of an arm; `changes` texts are decoded per minute."""
    hop, watch = measure(stand.hop, repeats), measure(stand.watch, repeats)
    seen = stand.watch()
    write = measure(lambda: stand.write(seen), repeats)
    found = {'open answer': measure(lambda: stand.write(stand.ask()), repeats)}
    for count in COUNTS:
        found[f'{count} candidates'] = measure(partial(stand.choose, count), repeats)
    if isinstance(stand.arm, EmbeddingArm):
        sizes = {f'{count} candidates, known before': count for count in COUNTS}
        for name, size in (
            sizes | {'open answer, nearest sentence': len(captions('all'))}
        ).items():
            vectors = torch.randn(size, seen.shape[-1])
            found[name] = measure(partial(stand.choose_known, vectors), repeats)
        minutes = {MINUTE: (float(HOPS), changes)}
    else:
        minutes = {
            'stream minute, every hop in words': (float(HOPS), float(HOPS)),
            'stream minute, every second in words': (60.0, 60.0),
        }
    for name, (watched, said) in minutes.items():
        parts = [(HOPS, hop), (watched, watch), (said, write)]
        flops, ms = (sum(n * each[i] for n, each in parts) for i in range(2))
        found[name] = flops, ms
    return found


def changes_a_minute(split: Path) -> float:
    """Return the number of annotations per minute of a split."""
    streams: tuple[Stream, ...] = open_split(split).streams
    ends = [stream.annotations[-1].end for stream in streams]
    return 60 * sum(len(stream.annotations) for stream in streams) / sum(ends)


def _arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, default=Settings.data, help='folder of the splits')
    parser.add_argument('--out', type=Path, default=Settings.out)
    return parser.parse_args()


@torch.inference_mode()
def main() -> None:
    """Measure and write the results. Raises VljepaError."""
    args = _arguments()
    torch.set_num_threads(1)
    settings = Settings(data=args.data, out=args.out)
    known, changes = texts(settings), changes_a_minute(args.data / 'validation')
    arms = {name: make_arm(Plan(name), settings, known).eval() for name in ARMS}
    stands = {name: Stand(arm, known, settings) for name, arm in arms.items()}
    found = {
        'changes': changes,
        'torch': torch.__version__,
        'commit': commit(),
        'arms': {name: costs(stand, changes) for name, stand in stands.items()},
    }
    (args.out / 'cost.json').write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(run(main))
