# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from helpers import fake_models

from vljepa_ros.core.errors import ModelError
from vljepa_ros.runtime.model_pool import ModelPool, ModelSpec

SPEC = ModelSpec('small', 'cpu', 'float32', 0)
OTHER = ModelSpec('small', 'cuda:0', 'float32', 0)


class Counted:
    """Pool that records loads and frees."""

    def __init__(self) -> None:
        self.loads: list[Any] = []
        self.freed = 0
        self.pool = ModelPool(load=self._load, free=self._free)

    def _load(self, spec: ModelSpec, parts: tuple[str, ...]) -> Any:
        self.loads.append((spec, parts))
        return fake_models.fake_model()

    def _free(self) -> None:
        self.freed += 1


def test_nodes_of_one_process_share_one_load() -> None:
    counted = Counted()
    for part in ('vision', 'language', 'language'):
        counted.pool.expect(SPEC, part)
    leases = [counted.pool.acquire(SPEC, part) for part in ('vision', 'language', 'language')]
    assert counted.loads == [(SPEC, ('language', 'vision'))]
    assert leases[1].half is leases[2].half
    assert isinstance(leases[0].half, fake_models.FakeVision)
    assert leases[0].facts == fake_models.FACTS


def test_a_process_of_one_node_loads_its_half_only() -> None:
    counted = Counted()
    counted.pool.expect(SPEC, 'language')
    counted.pool.acquire(SPEC, 'language')
    assert counted.loads == [(SPEC, ('language',))]


def test_another_device_is_another_model() -> None:
    counted = Counted()
    counted.pool.acquire(SPEC, 'language')
    counted.pool.acquire(OTHER, 'vision')
    assert counted.loads == [(SPEC, ('language',)), (OTHER, ('vision',))]


def test_memory_is_freed_with_the_last_lease_and_loaded_again_when_asked() -> None:
    counted = Counted()
    counted.pool.expect(SPEC, 'vision')
    counted.pool.expect(SPEC, 'language')
    vision, language = (counted.pool.acquire(SPEC, part) for part in ('vision', 'language'))
    vision.release()
    vision.release()
    assert counted.freed == 0
    language.release()
    assert counted.freed == 1
    counted.pool.acquire(SPEC, 'vision')
    assert len(counted.loads) == 2


def test_a_load_that_fails_is_tried_again() -> None:
    models: list[Any] = [ModelError('damaged'), fake_models.fake_model()]

    def load(spec: ModelSpec, parts: tuple[str, ...]) -> Any:
        found = models.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    pool = ModelPool(load=load, free=lambda: None)
    with pytest.raises(ModelError, match='damaged'):
        pool.acquire(SPEC, 'vision')
    assert isinstance(pool.acquire(SPEC, 'vision').half, fake_models.FakeVision)


def test_one_thread_a_half() -> None:
    pool = Counted().pool
    assert pool.thread('vision') is pool.thread('vision')
    assert pool.thread('vision') is not pool.thread('language')
    assert pool.stop()


def test_other_threads_in_the_same_process_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted()
    counted.pool.acquire(SPEC, 'vision')
    assert not caplog.records
    counted.pool.acquire(replace(SPEC, threads=4), 'language')
    [record] = caplog.records
    assert 'threads' in record.getMessage() and '4' in record.getMessage()


def test_a_pool_can_be_stopped_while_a_model_loads() -> None:
    loading, go = threading.Event(), threading.Event()

    def load(spec: ModelSpec, parts: tuple[str, ...]) -> Any:
        loading.set()
        go.wait(60)
        return fake_models.fake_model()

    pool = ModelPool(load=load, free=lambda: None)
    loaded = pool.thread('vision').call(pool.acquire, SPEC, 'vision')
    assert loading.wait(30)
    stopped = list[bool]()
    stopper = threading.Thread(target=lambda: stopped.append(pool.stop(0.1)), daemon=True)
    stopper.start()
    stopper.join(30)
    try:
        assert stopped == [False]  # it returned, although the model thread is still busy
    finally:
        go.set()
        loaded.result(30)
