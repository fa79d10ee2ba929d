# SPDX-License-Identifier: Apache-2.0
"""Model pool: nodes of one process share the weights, which are freed after the last use."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.runtime.model_thread import ModelThread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSpec:
    """Model name, device, dtype and CPU threads. Nodes with equal specs share the weights."""

    model: str
    device: str
    dtype: str
    threads: int


Loader = Callable[[ModelSpec, tuple[str, ...]], Model]


def load_from_registry(spec: ModelSpec, parts: tuple[str, ...]) -> Model:
    """Load a model from the registry.

    torch is imported only here, so that a node can start before torch is loaded.

    Args:
        spec: Model, device, dtype and threads.
        parts: Sides to load: 'vision', 'language' or both.
    """
    from vljepa_ros.model import registry

    return registry.load(spec.model, spec.device, spec.dtype, spec.threads, parts)


def free_from_registry() -> None:
    """Release GPU memory that torch caches for deleted weights."""
    from vljepa_ros.model import registry

    registry.free()


@dataclass
class Lease:
    """One side of a model (`half`), in use by one node until `release` is called."""

    facts: ModelFacts
    half: Any
    release: Callable[[], None]


@dataclass
class _PooledModel:
    model: Model
    parts: tuple[str, ...]
    users: int = 0


@dataclass
class ModelPool:
    """Loads models and shares them between the nodes of a process. Thread-safe.

    Nodes announce their sides with `expect` before they acquire them, so that one load serves all
    nodes.
    """

    load: Loader = load_from_registry
    free: Callable[[], None] = free_from_registry
    shared: bool = False  # whether both sides are used in this process
    _lock: threading.Lock = field(default_factory=threading.Lock)  # held while a model loads
    _threads_lock: threading.Lock = field(default_factory=threading.Lock)
    _loaded: dict[ModelSpec, _PooledModel] = field(default_factory=dict)
    _expected: dict[ModelSpec, set[str]] = field(default_factory=dict)
    _threads: dict[str, ModelThread] = field(default_factory=dict)

    def expect(self, spec: ModelSpec, part: str) -> None:
        """Announce that a side ('vision' or 'language') of a model will be acquired."""
        with self._lock:
            self._expected.setdefault(spec, set()).add(part)

    def thread(self, part: str) -> ModelThread:
        """Return the thread that runs one side of all models, starting it if necessary."""
        with self._threads_lock:
            if part not in self._threads:
                self._threads[part] = ModelThread(part)
            return self._threads[part]

    def acquire(self, spec: ModelSpec, part: str) -> Lease:
        """Lease one side of a model, loading the model if necessary.

        Args:
            spec: Model, device, dtype and threads.
            part: Side: 'vision' or 'language'.

        Raises:
            ModelError: The model cannot be loaded.
        """
        with self._lock:
            loaded = self._loaded.get(spec)
            if loaded is None or part not in loaded.parts:
                self._warn_of_threads(spec)
                parts = tuple(sorted({part} | self._expected.get(spec, set())))
                loaded = self._loaded[spec] = _PooledModel(self.load(spec, parts), parts)
            loaded.users += 1
            return Lease(
                loaded.model.facts, getattr(loaded.model, part), self._release_once(spec, loaded)
            )

    def _warn_of_threads(self, spec: ModelSpec) -> None:
        """Log a warning if nodes of this process set different numbers of threads."""
        others = {other.threads for other in self._loaded if other != spec} - {spec.threads}
        if others:
            known = ', '.join(str(threads) for threads in sorted(others))
            log.warning(
                'nodes of this process set the parameter threads to different values (%s and %d): '
                'all use %d; set the same value',
                known,
                spec.threads,
                spec.threads,
            )

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop all model threads, and return whether all of them ended within the timeout."""
        with self._threads_lock:
            threads, self._threads = self._threads, {}
        end_s = time.monotonic() + timeout_s
        return all(
            [thread.stop(max(0.0, end_s - time.monotonic())) for thread in threads.values()]
        )

    def _release_once(self, spec: ModelSpec, loaded: _PooledModel) -> Callable[[], None]:
        released = False

        def release() -> None:
            nonlocal released
            with self._lock:
                if released:
                    return
                released = True
                loaded.users -= 1
                if loaded.users:
                    return
                if self._loaded.get(spec) is loaded:
                    del self._loaded[spec]
            gc.collect()
            self.free()

        return release
