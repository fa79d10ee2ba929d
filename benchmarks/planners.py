# SPDX-License-Identifier: Apache-2.0
"""`python -m vljepa_ros.cli.ros_environment python benchmarks/planners.py [--json]`.

Cost of planners, measured as ratios within one run: the rate of embeddings while clients query
without a pause, relative to the rate without clients (the whole stack as processes, on the sample
bag); the fraction of a hop that watch conditions take; and the duration of a search among many
vectors.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import run, show

from vljepa_ros.cli.common import add_model_arguments, load_model
from vljepa_ros.cli.demo import params_file, sample_folder
from vljepa_ros.cli.main import Parser
from vljepa_ros.cli.stack_processes import StackProcesses, stack_commands
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.settings import MemorySettings
from vljepa_ros.core.types import Change, Embedding, Frame, Reason, Segment, StreamKey
from vljepa_ros.core.vectors import unit
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.stream.perceiver import Perceiver

NAMESPACE = 'vljepa'
SEGMENT_HOPS = 22
REPEATS = 21
AGAIN_S = 0.2  # delay before a client repeats a refused query
PROMPTS = ('Is the drawer open?', 'What is in the gripper?', 'Which object is being moved?')


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    parser.add_argument('--clients', type=int, default=32, help='number of concurrent planners')
    parser.add_argument(
        '--seconds', type=float, default=20.0, help='duration with clients, and without'
    )
    parser.add_argument('--conditions', type=int, default=64, help='number of watch conditions')
    parser.add_argument(
        '--vectors', type=int, default=1_000_000, help='number of vectors to search'
    )
    add_model_arguments(parser)
    args = parser.parse_args()
    model = load_model(args, 'vision', 'language')
    found: dict[str, Any] = {'clients': args.clients, 'conditions': args.conditions}
    found |= rates(args)
    found |= conditions(model, args.conditions)
    found |= search(model, args.vectors)
    table = '\n'.join(f'{name:28} {value:.4g}' for name, value in found.items())
    show(args, model.facts, found, table)


# Rate of the stream with concurrent clients.


def rates(args: Namespace) -> dict[str, float]:
    """Measure embeddings per second without and with clients, and answers per second."""
    bag = sample_folder()
    with (
        tempfile.TemporaryDirectory() as logs,
        StackProcesses(dict(os.environ), Path(logs)) as processes,
        Counting() as counting,
    ):
        commands = stack_commands(NAMESPACE, args.model, '/camera/image_raw', params_file())
        for name, command in commands.items():
            processes.start(name, command)
        counting.wait_for_stack()
        processes.start('play', [sys.executable, '-m', 'vljepa_ros.cli.main', 'play', str(bag)])
        counting.wait_for_stream()
        alone = counting.rate(args.seconds)
        with Asking(args.clients) as asking:
            under = counting.rate(args.seconds)
        answered, refused = asking.answered, asking.refused
    return {
        'hops_per_s_alone': alone,
        'hops_per_s_under_clients': under,
        'rate_kept': under / alone,
        'answers_per_s': answered / args.seconds,
        'refused': refused,
    }


class Counting:
    """Counts the embeddings that the stack publishes."""

    def __enter__(self) -> Counting:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from vljepa_ros.msg import SemanticEmbedding

        rclpy.init()
        self._count = 0
        self._node = rclpy.create_node('counting', namespace=NAMESPACE)
        self._node.create_subscription(SemanticEmbedding, 'semantic_embedding', self._on_one, 50)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        threading.Thread(target=self._executor.spin, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        import rclpy

        self._executor.shutdown()
        rclpy.shutdown()

    def _on_one(self, _: Any) -> None:
        self._count += 1

    def wait_for_stack(self) -> None:
        """Wait for a publisher of embeddings and for the query service."""
        from vljepa_ros.client.planner_client import Client

        with Client(NAMESPACE, timeout_s=120.0) as client:
            client.search('anything')

    def wait_for_stream(self) -> None:
        """Wait for the first embeddings."""
        _until(lambda: self._count > 5)

    def rate(self, seconds: float) -> float:
        """Measure embeddings per second from now on."""
        before, began_s = self._count, time.monotonic()
        time.sleep(seconds)
        return (self._count - before) / (time.monotonic() - began_s)


class Asking:
    """Clients that send the next query as soon as they receive a response."""

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self.answered = self.refused = 0
        self._over = threading.Event()

    def __enter__(self) -> Asking:
        from vljepa_ros.client.planner_client import Client

        self._client = Client(NAMESPACE)
        for number in range(self._clients):
            self._ask(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._client.close()

    def _ask(self, number: int) -> None:
        """Send a query; every fourth one is about the whole past."""
        if self._over.is_set():
            return
        candidates = ['yes', 'no'] if number % len(PROMPTS) == 0 else []
        start_s = 1.0 if number % 4 == 3 else 0.0
        prompt = PROMPTS[number % len(PROMPTS)]
        future = self._client.query_later(prompt, candidates, start_s=start_s)
        future.add_done_callback(lambda done: self._on_answer(done, number))

    def _on_answer(self, done: Any, number: int) -> None:
        if self._over.is_set():
            return  # the client was closed during the wait
        if done.exception() is None:
            self.answered += 1
            self._ask(number)
        else:
            self.refused += 1
            threading.Timer(AGAIN_S, self._ask, [number]).start()


def _until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError('the stack does not respond')
        time.sleep(0.05)


# Watch conditions and search.


def conditions(model: Model, count: int) -> dict[str, float]:
    """Measure the time for scoring many conditions, as a fraction of a hop."""
    assert model.vision is not None and model.language is not None
    rng = np.random.default_rng(0)
    size, period_ns = model.facts.image_size, model.facts.frame_period_ns
    pictures = rng.integers(0, 256, (100, size, size, 3), np.uint8)
    perceiver, hops = Perceiver(model.vision), list[Embedding]()
    began_s = time.perf_counter()
    for number, picture in enumerate(pictures):
        hops += perceiver.push(Frame(number * period_ns, picture))
    hop_ms = 1e3 * (time.perf_counter() - began_s) / len(hops)
    texts = [f'the drawer number {number} is open' for number in range(count)]
    model.language.encode(texts)  # encoded once, as in the first hop
    began_s = time.perf_counter()
    for hop in hops:
        for text in texts:
            model.language.similarity(hop.vector[None], text)
    watch_ms = 1e3 * (time.perf_counter() - began_s) / len(hops)
    return {'hop_ms': hop_ms, 'conditions_ms': watch_ms, 'share_of_hop': watch_ms / hop_ms}


def search(model: Model, count: int) -> dict[str, float]:
    """Measure the median time of a search among `count` stored hops and their segments."""
    assert model.language is not None
    key = StreamKey('camera', 'What is happening?', model.facts.model_id)
    memory = Memory(model.facts.model_id, MemorySettings(1e9, 1e9, 10**13))
    rng, hop_ns = np.random.default_rng(0), model.facts.hop_ns
    for first in range(0, count, SEGMENT_HOPS):
        vectors = unit(rng.normal(size=(SEGMENT_HOPS, model.facts.embedding_dim)))
        memory.change(_change(key, first, hop_ns, vectors[0]))
        for number, vector in enumerate(vectors, first):
            memory.record(Embedding(number * hop_ns, 0, key, vector))
    times_ms = []
    for number in range(REPEATS):
        began_s = time.perf_counter()
        memory.search(model.language, f'the robot opens the drawer for the {number}th time')
        times_ms.append(1e3 * (time.perf_counter() - began_s))
    return {'vectors': count, 'search_ms': statistics.median(times_ms)}


def _change(key: StreamKey, first: int, hop_ns: int, vector: Any) -> Change:
    number, start_ns = first // SEGMENT_HOPS, first * hop_ns
    before = Segment(number - 1, start_ns - SEGMENT_HOPS * hop_ns, start_ns) if number else None
    reason = Reason.MEANING if number else Reason.FIRST
    old = vector if number else None
    return Change(start_ns, key, 's', number, start_ns, 1.0, reason, vector, before, old)


if __name__ == '__main__':
    sys.exit(run(main))
