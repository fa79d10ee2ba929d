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


class RecordingPool:
    """Model pool that records loads and frees."""

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
    recording = RecordingPool()
    for part in ('vision', 'language', 'language'):
        recording.pool.expect(SPEC, part)
    leases = [recording.pool.acquire(SPEC, part) for part in ('vision', 'language', 'language')]
    assert recording.loads == [(SPEC, ('language', 'vision'))]
    assert leases[1].half is leases[2].half
    assert isinstance(leases[0].half, fake_models.FakeVision)
    assert leases[0].facts == fake_models.FACTS


def test_a_process_with_one_node_loads_only_its_side() -> None:
    recording = RecordingPool()
    recording.pool.expect(SPEC, 'language')
    recording.pool.acquire(SPEC, 'language')
    assert recording.loads == [(SPEC, ('language',))]


def test_each_device_has_its_own_model() -> None:
    recording = RecordingPool()
    recording.pool.acquire(SPEC, 'language')
    recording.pool.acquire(OTHER, 'vision')
    assert recording.loads == [(SPEC, ('language',)), (OTHER, ('vision',))]


def test_the_model_is_freed_with_the_last_lease_and_loaded_again_on_request() -> None:
    recording = RecordingPool()
    recording.pool.expect(SPEC, 'vision')
    recording.pool.expect(SPEC, 'language')
    vision, language = (recording.pool.acquire(SPEC, part) for part in ('vision', 'language'))
    vision.release()
    vision.release()
    assert recording.freed == 0
    language.release()
    assert recording.freed == 1
    recording.pool.acquire(SPEC, 'vision')
    assert len(recording.loads) == 2


def test_a_failed_load_is_repeated() -> None:
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


def test_each_side_has_one_thread() -> None:
    pool = RecordingPool().pool
    assert pool.thread('vision') is pool.thread('vision')
    assert pool.thread('vision') is not pool.thread('language')
    assert pool.stop()


def test_different_thread_counts_in_one_process_are_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording = RecordingPool()
    recording.pool.acquire(SPEC, 'vision')
    assert not caplog.records
    recording.pool.acquire(replace(SPEC, threads=4), 'language')
    [record] = caplog.records
    assert 'threads' in record.getMessage() and '4' in record.getMessage()


def test_a_pool_can_be_stopped_while_a_model_loads() -> None:
    loading, released = threading.Event(), threading.Event()

    def load(spec: ModelSpec, parts: tuple[str, ...]) -> Any:
        loading.set()
        released.wait(60)
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
        released.set()
        loaded.result(30)
