# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/vision_latency.py [MODEL ...] [--device D] [--dtype T] [--random] [--json]`.

Cost of a hop for a model's vision side, with one standing prompt and with eight, as a fraction of
the hop's period. With a fraction above 1, the model is slower than the camera. A model without
installed weights is measured with random weights, which have the same cost, so that a machine can
be evaluated before any download.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import circumstances, run
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from vljepa_ros.cli.common import add_device_arguments, add_output_arguments, note, print_json
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.protocols import ModelFacts, Vision
from vljepa_ros.model import registry
from vljepa_ros.model.checkpoint_config import TokenizerConfig
from vljepa_ros.model.hub.transformers_compat import no_init_weights

WARM_UP, HOPS = 10, 40
PROMPTS = [f'What is happening to number {i} of the things on the table?' for i in range(8)]
COUNTS = (1, 8)  # numbers of prompts
HEAD = f'{"model":34} dtype     prompts period ms   hop ms      p95   share     GB'


@dataclass(frozen=True)
class Cost:
    """Cost of a hop: median and p95 in ms, and the median as a fraction of its period.

    `memory_gb` is the peak memory on a GPU; 0 on a CPU.
    """

    prompts: int
    period_ms: float
    hop_ms: float
    slow_hop_ms: float  # p95
    share_of_period: float
    memory_gb: float


def with_random_weights(folder: Path, made: Path) -> Path:
    """Copy a model's folder with random weights and synthetic tokenizers."""
    from safetensors.torch import save_file

    config = registry.read_config(folder)
    shutil.copytree(folder, made)
    with no_init_weights():
        net = registry.make(config).to(torch.bfloat16)
    drawn = torch.Generator().manual_seed(0)
    state = {k: v.contiguous() for k, v in net.requires_grad_(False).state_dict().items()}
    for value in state.values():
        if value.is_floating_point():
            value.normal_(0.0, 0.02, generator=drawn)
    save_file(state, made / registry.WEIGHTS)
    for tokenizer in tokenizers_of(config):
        marks = [mark for mark in (tokenizer.begin, tokenizer.end) if mark]
        words = sorted({word for prompt in PROMPTS for word in prompt.split()})
        known = {word: i for i, word in enumerate(['<unk>', *marks, *words])}
        made_up = Tokenizer(WordLevel(known, unk_token='<unk>'))
        made_up.pre_tokenizer = Whitespace()
        made_up.save(str(made / tokenizer.file))
    return made


def tokenizers_of(part: Any) -> list[TokenizerConfig]:
    """Return all tokenizers in a configuration."""
    if isinstance(part, TokenizerConfig):
        return [part]
    if not dataclasses.is_dataclass(part):
        return []
    return [t for f in dataclasses.fields(part) for t in tokenizers_of(getattr(part, f.name))]


def measure(vision: Vision, count: int) -> Cost:
    """Measure the cost with `count` prompts, after a warm-up that fills the window."""
    facts, rng = vision.facts, np.random.default_rng(0)
    is_gpu = torch.device(facts.device).type == 'cuda'
    shape = (facts.tubelet_frames, facts.image_size, facts.image_size, 3)
    hop = list(rng.integers(0, 256, shape, np.uint8))
    state, taken_ms = vision.new_state(), list[float]()
    for number in range(WARM_UP + HOPS):
        if is_gpu and number == WARM_UP:
            torch.cuda.reset_peak_memory_stats(facts.device)
        start = time.perf_counter()
        vision.step(state, hop)
        vision.predict(state, PROMPTS[:count])  # synchronizes: the result is in CPU memory
        taken_ms.append(1000 * (time.perf_counter() - start))
    median, slow = np.quantile(taken_ms[WARM_UP:], [0.5, 0.95])
    period_ms = 1000 * facts.tubelet_frames / facts.rate_hz
    memory = torch.cuda.max_memory_allocated(facts.device) / 1e9 if is_gpu else 0.0
    share = float(median) / period_ms
    return Cost(count, period_ms, float(median), float(slow), share, memory)


def vision_of(name: str, device: str, dtype: str, threads: int, random: bool) -> Vision:
    """Load a model's vision side, with random weights if it has none. Raises ModelError."""
    folder = registry.find(name)
    if not random and (folder / registry.WEIGHTS).is_file():
        vision = registry.load(name, device, dtype, threads, ('vision',)).vision
    else:
        note(f'{name}: random weights')
        with tempfile.TemporaryDirectory() as made:
            made_up = str(with_random_weights(folder, Path(made) / folder.name))
            vision = registry.load(made_up, device, dtype, threads, ('vision',)).vision
    assert vision is not None
    return vision


def row(facts: ModelFacts, cost: Cost) -> str:
    """Format one line of the table."""
    return (
        f'{facts.model_id:34} {facts.dtype:9} {cost.prompts:7} {cost.period_ms:9.0f} '
        f'{cost.hop_ms:8.1f} {cost.slow_hop_ms:8.1f} {cost.share_of_period:7.3f} '
        f'{cost.memory_gb:6.2f}'
    )


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'models',
        nargs='*',
        metavar='MODEL',
        help='models to measure (default: all installed models)',
    )
    parser.add_argument('--random', action='store_true', help='random weights for all')
    add_device_arguments(parser)
    add_output_arguments(parser)
    args = parser.parse_args()
    found = []
    if not args.json:
        print(HEAD)
    for name in args.models or sorted(registry.available()):
        vision = vision_of(name, args.device, args.dtype, args.threads, args.random)
        costs = [measure(vision, count) for count in COUNTS]
        found.append(circumstances(vision.facts) | {'costs': [asdict(cost) for cost in costs]})
        for cost in costs if not args.json else ():
            print(row(vision.facts, cost), flush=True)
        del vision
        registry.free()
    if args.json:
        print_json(found)


if __name__ == '__main__':
    sys.exit(run(main))
