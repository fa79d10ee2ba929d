# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import fake_models
from helpers.node_harness import Bench, eventually, fake_pool, values_of
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from vljepa_ros.srv import Query

from vljepa_ros.core.errors import ModelError
from vljepa_ros.memory import frame_store, segment_store, sqlite_file
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.change_detection import ChangeDetectionNode
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode
from vljepa_ros.runtime.model_pool import ModelPool

KINDS = [PerceptionNode, ChangeDetectionNode, DecoderNode, QueryNode]


class Failing(VljepaNode):
    """Node that fails in a selected step."""

    def __init__(self, pool: ModelPool | None = None, **options: Any) -> None:
        super().__init__('failing', pool, **options)
        self.bad = ''
        self.steps: list[str] = []

    def _step_taken(self, name: str) -> None:
        self.steps.append(name)
        if self.bad == name:
            raise KeyError(name)

    def setup(self) -> None:
        self._step_taken('setup')

    def start(self) -> None:
        self._step_taken('start')

    def stop(self) -> None:
        self._step_taken('stop')

    def teardown(self) -> None:
        self._step_taken('teardown')


def change_state(bench: Bench, name: str, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(bench.call(ChangeState, f'{name}/change_state', request).success)


def state(bench: Bench, name: str) -> str:
    return str(bench.call(GetState, f'{name}/get_state', GetState.Request()).current_state.label)


@pytest.mark.parametrize('kind', KINDS)
def test_a_lifecycle_manager_can_activate_and_clean_up_each_node_twice(
    bench: Bench, kind: Any
) -> None:
    node = bench.start(kind, up=False)
    name = node.get_name()
    for _ in range(2):
        for transition, expected in (
            (Transition.TRANSITION_CONFIGURE, 'inactive'),
            (Transition.TRANSITION_ACTIVATE, 'active'),
            (Transition.TRANSITION_DEACTIVATE, 'inactive'),
            (Transition.TRANSITION_CLEANUP, 'unconfigured'),
        ):
            assert change_state(bench, name, transition)
            assert state(bench, name) == node.phase == expected
    assert change_state(bench, name, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(bench, name) == 'finalized'


@pytest.mark.parametrize('kind', KINDS)
def test_each_node_reports_under_its_full_name(bench: Bench, kind: Any) -> None:
    node = bench.start(kind)
    status = bench.status(node, lambda s: s.message == 'active')
    assert status.name == f'{bench.namespace}/{node.get_name()}'
    assert values_of(status)['state'] == 'active'
    assert ('model' in values_of(status)) == (kind is not ChangeDetectionNode)


@pytest.mark.parametrize('kind', KINDS)
def test_parameters_survive_a_reconfiguration(bench: Bench, kind: Any) -> None:
    node = bench.start(kind)
    before = node.values()
    bench.do(node, node.bring_down)
    assert node.phase == 'unconfigured'
    assert bench.do(node, node.bring_up)
    assert node.values() == before


@pytest.mark.parametrize(
    ('bad', 'transition', 'phase', 'steps', 'error'),
    [
        (
            'setup',
            Transition.TRANSITION_CONFIGURE,
            'unconfigured',
            ['setup', 'teardown'],
            "KeyError: 'setup'",
        ),
        (
            'start',
            Transition.TRANSITION_ACTIVATE,
            'inactive',
            ['start', 'stop'],
            "KeyError: 'start'",
        ),
    ],
)
def test_an_exception_in_a_transition_is_a_failure_logged_in_one_line(
    bench: Bench, bad: str, transition: int, phase: str, steps: list[str], error: str
) -> None:
    node = bench.start(Failing, up=False)
    logged: list[str] = []
    node.get_logger().error = logged.append
    if transition == Transition.TRANSITION_ACTIVATE:
        assert change_state(bench, 'failing', Transition.TRANSITION_CONFIGURE)
    node.steps, node.bad = [], bad
    assert not change_state(bench, 'failing', transition)
    [line] = logged
    assert error in line and '\n' not in line
    assert node.steps == steps  # the transition is undone
    assert state(bench, 'failing') == node.phase == phase
    status = bench.status(node, lambda s: s.level == b'\x02')
    assert status.message == line
    node.bad = ''
    assert change_state(bench, 'failing', transition)
    bench.status(node, lambda s: s.level == b'\x00')


def test_a_node_stays_active_if_its_deactivation_fails(bench: Bench) -> None:
    node = bench.start(Failing)
    node.steps, node.bad = [], 'stop'
    assert not change_state(bench, 'failing', Transition.TRANSITION_DEACTIVATE)
    assert node.steps == ['stop', 'start']
    assert state(bench, 'failing') == node.phase == 'active'
    node.bad = ''
    assert change_state(bench, 'failing', Transition.TRANSITION_DEACTIVATE)
    assert node.phase == 'inactive'


def test_a_failed_shutdown_finalizes_the_node_and_frees_its_model(bench: Bench) -> None:
    pool = fake_pool()
    freed: list[bool] = []
    pool.free = lambda: freed.append(True)
    node = bench.start(QueryNode, pool)

    def stop() -> None:
        raise RuntimeError('busy')

    node.stop = stop
    assert not change_state(bench, 'query_node', Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state(bench, 'query_node') == node.phase == 'finalized'
    assert freed == [True]
    response = bench.call(Query, 'query', Query.Request(prompt='What?'))
    assert response.error_code == Query.Response.INACTIVE and 'finalized' in response.message
    status = bench.status(node, lambda s: s.level == b'\x02')
    assert 'shut down' in status.message and 'RuntimeError: busy' in status.message


def test_a_shutdown_frees_a_model_that_was_prepared(bench: Bench) -> None:
    pool = fake_pool()
    freed: list[bool] = []
    pool.free = lambda: freed.append(True)
    node = bench.start(QueryNode, pool, up=False)
    bench.do(node, node.prepare)
    assert change_state(bench, 'query_node', Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert freed == [True]


@pytest.mark.parametrize(
    ('kind', 'parameter', 'part'),
    [(PerceptionNode, 'frames_path', 'vision'), (QueryNode, 'memory_path', 'language')],
)
@pytest.mark.parametrize('configured', [True, False])
def test_the_model_thread_opens_and_closes_the_storage(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    parameter: str,
    part: str,
    configured: bool,
) -> None:
    threads: list[str] = []

    class Noting(sqlite_file.Database):
        def __init__(self, *given: Any, **options: Any) -> None:
            threads.append(threading.current_thread().name)
            super().__init__(*given, **options)

        def close(self) -> None:
            threads.append(threading.current_thread().name)
            super().close()

    for module in (frame_store, segment_store):
        monkeypatch.setattr(module, 'Database', Noting)
    node = bench.start(kind, up=configured, **{parameter: str(tmp_path / 'file.db')})
    if not configured:
        bench.do(node, node.prepare)
    bench.do(node, node.bring_down)
    assert threads == [part, part]


def test_an_illegal_transition_is_refused_and_keeps_the_state(bench: Bench) -> None:
    node = bench.start(ChangeDetectionNode)
    assert not change_state(bench, 'change_detection_node', Transition.TRANSITION_CONFIGURE)
    assert state(bench, 'change_detection_node') == node.phase == 'active'


class SlowLoad:
    """Model load that waits until it is released."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.thread = ''

    def __call__(self, *_: Any) -> Any:
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.released.wait(10)
        return fake_models.fake_model()


def test_get_state_answers_while_the_weights_load_in_the_model_thread(bench: Bench) -> None:
    load = SlowLoad()
    node = bench.start(PerceptionNode, ModelPool(load=load, free=lambda: None), up=False)
    client = bench.probe.create_client(ChangeState, 'perception_node/change_state')
    assert client.wait_for_service(5)
    changed = client.call_async(
        ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    )
    assert load.begun.wait(5)
    assert load.thread == 'vision'
    assert state(bench, 'perception_node') == 'unconfigured'
    assert not changed.done()
    load.released.set()
    eventually(changed.done)
    assert changed.result().success
    assert node.phase == 'inactive'


def test_a_model_that_cannot_be_loaded_fails_configure_with_one_line(bench: Bench) -> None:
    loads: list[Any] = []

    def load(*asked: Any) -> Any:
        loads.append(asked)
        raise ModelError('unknown model')

    node = bench.start(DecoderNode, ModelPool(load=load, free=lambda: None), up=False)
    logged: list[str] = []
    node.get_logger().error = logged.append
    assert not bench.do(node, node.bring_up)
    [line] = logged
    assert 'configure' in line and 'unknown model' in line and '\n' not in line
    assert len(loads) == 1
    assert not change_state(bench, 'decoder_node', Transition.TRANSITION_CONFIGURE)
    assert len(loads) == 2  # a repaired file is found


def test_an_unreported_configure_failure_is_not_reported_later(bench: Bench) -> None:
    models: list[Any] = [ModelError('damaged'), fake_models.fake_model()]

    def load(*_: Any) -> Any:
        found = models.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    node = bench.start(DecoderNode, ModelPool(load=load, free=lambda: None), up=False)
    bench.do(node, node.prepare)
    assert bench.do(node, node.bring_up)


def test_cleanup_frees_the_model_and_configure_loads_it_again(bench: Bench) -> None:
    pool = fake_pool()
    freed: list[bool] = []
    pool.free = lambda: freed.append(True)
    node = bench.start(DecoderNode, pool)
    bench.do(node, node.trigger_deactivate)
    assert freed == []
    bench.do(node, node.trigger_cleanup)
    assert freed == [True]
    assert bench.do(node, node.bring_up)
    assert len(pool.loads) == 2


def test_a_separate_text_side_defaults_to_the_cpu(bench: Bench) -> None:
    alone = bench.start(DecoderNode, fake_pool(), up=False)
    assert alone.get_parameter('device').value == 'cpu'
    pool = fake_pool()
    pool.shared = True
    together = [bench.start(kind, pool, up=False) for kind in (PerceptionNode, QueryNode)]
    assert [node.get_parameter('device').value for node in together] == ['auto', 'auto']
    for node in together:
        assert bench.do(node, node.bring_up)
    assert len(pool.loads) == 1  # one load serves both halves


def test_diagnostics_are_published_by_the_steady_clock(bench: Bench) -> None:
    node = bench.start(ChangeDetectionNode, use_sim_time=True)  # and /clock has no publisher
    message = bench.status(node, lambda s: s.message != 'active').message
    assert message.startswith('use_sim_time is set, but no /clock message was received')


def test_nodes_start_without_torch_and_without_the_offline_pipeline() -> None:
    code = (
        'import sys, vljepa_ros.nodes.main, vljepa_ros.nodes.stack\n'
        "print([m for m in ('torch', 'transformers', 'vljepa_ros.pipeline')"
        ' if m in sys.modules])'
    )
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == '[]'
