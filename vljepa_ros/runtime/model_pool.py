# SPDX-License-Identifier: Apache-2.0
"""The model halves of one process: loaded once, shared by its nodes, freed with the last."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.runtime.model_thread import ModelThread


@dataclass(frozen=True)
class ModelSpec:
    """Which model, where. Nodes that ask for the same one share it."""

    model: str
    device: str
    dtype: str
    threads: int


Loader = Callable[[ModelSpec, tuple[str, ...]], Model]


def load_from_registry(spec: ModelSpec, parts: tuple[str, ...]) -> Model:
    """Load a real model. Torch is imported here and not before: nodes start without it."""
    from vljepa_ros.model import registry

    return registry.load(spec.model, spec.device, spec.dtype, spec.threads, parts)


def free_from_registry() -> None:
    """Give freed weights back, the accelerator's too."""
    from vljepa_ros.model import registry

    registry.free()


@dataclass
class Lease:
    """One half of a model in use by one node."""

    facts: ModelFacts
    half: Any
    release: Callable[[], None]


@dataclass
class _Held:
    model: Model
    parts: tuple[str, ...]
    users: int = 0


@dataclass
class ModelPool:
    """Loads by spec; a node announces what it will need, so that one load serves all of them."""

    load: Loader = load_from_registry
    free: Callable[[], None] = free_from_registry
    shared: bool = False  # whether both halves live in this process
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[ModelSpec, _Held] = field(default_factory=dict)
    _expected: dict[ModelSpec, set[str]] = field(default_factory=dict)
    _threads: dict[str, ModelThread] = field(default_factory=dict)

    def expect(self, spec: ModelSpec, part: str) -> None:
        """Announce a half."""
        with self._lock:
            self._expected.setdefault(spec, set()).add(part)

    def thread(self, part: str) -> ModelThread:
        """The process's one thread of that half."""
        with self._lock:
            if part not in self._threads:
                self._threads[part] = ModelThread(part)
            return self._threads[part]

    def acquire(self, spec: ModelSpec, part: str) -> Lease:
        """The half, loaded now if it is not there. Raises ModelError."""
        with self._lock:
            held = self._held.get(spec)
            if held is None or part not in held.parts:
                parts = tuple(sorted({part} | self._expected.get(spec, set())))
                held = self._held[spec] = _Held(self.load(spec, parts), parts)
            held.users += 1
            return Lease(
                held.model.facts, getattr(held.model, part), self._release_once(spec, held)
            )

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the threads; False where one does not end."""
        with self._lock:
            threads, self._threads = self._threads, {}
        return all([thread.stop(timeout_s) for thread in threads.values()])

    def _release_once(self, spec: ModelSpec, held: _Held) -> Callable[[], None]:
        released = False

        def release() -> None:
            nonlocal released
            with self._lock:
                if released:
                    return
                released = True
                held.users -= 1
                if held.users:
                    return
                if self._held.get(spec) is held:
                    del self._held[spec]
            gc.collect()
            self.free()

        return release
