# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from helpers import fake_models
from helpers.full_disk import Disk, locked
from helpers.node_harness import (
    LATCHED,
    MS,
    RELIABLE,
    START_NS,
    Bench,
    eventually,
    fake_pool,
    stamp,
    values_of,
)
from helpers.printed import numbers
from helpers.query_harness import (
    NOW,
    QueryHarness,
    floats,
    hop,
    look,
    predict_color,
    predict_error,
)
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from vljepa_ros.action import Watch
from vljepa_ros.msg import (
    ModelInfo,
    Moment,
    SemanticEmbedding,
)
from vljepa_ros.srv import Predict, Query, Search

from vljepa_ros.core.errors import (
    BusyError,
    InactiveError,
    NoFrameError,
    NotStoredError,
    VljepaError,
)
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import Embedding, StreamKey
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.segment_store import Store
from vljepa_ros.nodes.query import QueryNode


def test_an_open_question_is_answered_with_all_fields(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'), abstain_below=0.5)
    response = harness.ask('What is it?')
    assert response.latency.sec == 0
    assert response.latency.nanosec > 0
    response.latency = Duration()
    assert response == Query.Response(
        success=True,
        answer='the scene is red',
        confidence=1.0,
        abstained=False,
        evidence=[Moment(source='camera', start=stamp(NOW - 700 * MS), end=stamp(NOW), score=1.0)],
        basis=Query.Response.BASIS_NOW,
        vector=floats('red'),
        model_id=fake_models.FACTS.model_id,
        stamp=stamp(NOW),
    )
    assert harness.predict_requests == [Predict.Request(prompts=['What is it?'])]


def test_candidates_are_ranked(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('blue'))
    response = harness.ask(candidates=['red', 'blue', 'green'])
    # Cosines 0, 1, 0; the fake's softmax of ten times the cosine.
    weights = np.exp([10, 0, 0]) / np.exp([10, 0, 0]).sum()
    assert [c.text for c in response.ranked] == ['blue', 'red', 'green']
    assert np.allclose([c.score for c in response.ranked], weights, atol=1e-6)
    assert response.answer == 'blue'
    assert response.confidence == response.ranked[0].score


def test_low_confidence_is_an_abstention(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'), abstain_below=0.9)
    response = harness.ask(candidates=['red', 'a red one'])
    assert response.abstained
    assert response.abstain_reason == Query.Response.ABSTAIN_LOW_CONFIDENCE
    assert response.confidence == pytest.approx(0.5)


def test_a_question_about_a_span_requests_that_span_from_predict(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    span = {'start': stamp(START_NS), 'end': stamp(START_NS + 900 * MS)}
    response = harness.ask('Why?', source='rear', **span)
    assert response.basis == Query.Response.BASIS_FRAMES
    assert response.evidence[0].source == 'rear'
    assert harness.predict_requests == [Predict.Request(source='rear', prompts=['Why?'], **span)]


def predict_colors(*colors: str) -> Any:
    """Return a handler of `predict` that answers with one window per color."""

    def answer(request: Predict.Request, response: Predict.Response) -> Predict.Response:
        predict_color('red')(request, response)
        response.looks = [
            look(color, START_NS + 1000 * n * MS, START_NS + (1000 * n + 700) * MS)
            for n, color in enumerate(colors)
        ]
        return response

    return answer


def test_a_long_span_is_answered_segment_by_segment(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_colors('red', 'blue', 'blue', 'green'))
    response = harness.ask('What happened?', start=stamp(START_NS), end=stamp(NOW))
    assert response.answer == 'the scene is red; the scene is blue; the scene is green'
    assert response.basis == Query.Response.BASIS_FRAMES
    assert [moment.text for moment in response.evidence] == [
        f'the scene is {color}' for color in ('red', 'blue', 'blue', 'green')
    ]
    assert response.evidence[1].start == stamp(START_NS + 1000 * MS)
    assert response.evidence[1].end == stamp(START_NS + 1700 * MS)
    assert response.stamp == stamp(START_NS + 3700 * MS)


def test_stored_data_of_another_prompt_abstains(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_error(NotStoredError('no frames are stored')))
    harness.fill_memory()
    span = {'start': stamp(START_NS), 'end': stamp(NOW)}
    for prompt, candidates, abstained in (
        ('What?', [], False),  # the standing prompt
        ('', [], False),
        ('Is it hot?', ['yes', 'no'], True),
        ('How hot is it?', [], True),
        ('Which colour?', ['red', 'blue'], True),
    ):
        response = harness.ask(prompt, candidates=candidates, **span)
        assert response.basis == Query.Response.BASIS_MEMORY
        assert response.abstained is abstained, prompt
        not_seen = Query.Response.ABSTAIN_NOT_SEEN if abstained else Query.Response.ABSTAIN_NONE
        assert response.abstain_reason == not_seen
    response = harness.ask('Is it hot?', candidates=['yes', 'no'], **span)
    assert response.answer == 'it was red; the scene is blue'
    assert [moment.text for moment in response.evidence] == ['it was red', 'the scene is blue']


def test_a_span_with_deleted_frames_is_answered_from_memory(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_error(NotStoredError('no frames are stored')))
    harness.fill_memory()
    response = harness.ask(start=stamp(START_NS), end=stamp(START_NS + 1800 * MS))
    assert response.success
    assert response.basis == Query.Response.BASIS_MEMORY
    assert response.answer == 'the scene is red'
    assert response.evidence == [
        Moment(
            source='camera',
            start=stamp(START_NS),
            end=stamp(START_NS + 1800 * MS),
            score=1.0,
            text='it was red',
        )
    ]
    later = harness.ask(start=stamp(START_NS + 2000 * MS))
    assert later.answer == 'the scene is blue'
    assert later.stamp == stamp(START_NS + 3800 * MS)  # of the newest hop


@pytest.mark.parametrize(
    'refusal',
    [NoFrameError('no frame yet'), InactiveError('inactive: perception_node is inactive')],
    ids=lambda error: type(error).__name__,
)
def test_a_span_without_stored_frames_is_answered_from_memory(
    bench: Bench, refusal: VljepaError
) -> None:
    harness = QueryHarness(bench, predict_error(refusal))
    harness.fill_memory()
    response = harness.ask(start=stamp(START_NS), end=stamp(START_NS + 1800 * MS))
    assert response.success and response.basis == Query.Response.BASIS_MEMORY
    assert response.answer == 'the scene is red'
    found = harness.ask()  # a question about now
    assert (found.message, found.error_code) == (str(refusal), refusal.code)


def test_a_new_question_is_busy_while_predict_is_busy(bench: Bench) -> None:
    """Stored embeddings answer only their own prompt; a new question gets BUSY, no abstention."""
    harness = QueryHarness(bench, predict_error(BusyError('busy: 256 requests are pending')))
    harness.fill_memory()
    span = {'start': stamp(START_NS), 'end': stamp(START_NS + 1800 * MS)}
    assert harness.ask(prompt='What?', **span).answer == 'the scene is red'
    response = harness.ask(prompt='Is it hot?', **span)
    assert not response.success and response.error_code == Query.Response.BUSY
    assert response.abstained and response.abstain_reason == Query.Response.ABSTAIN_NONE


def test_stored_data_of_other_models_is_reported(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    other = Memory('other', store=Store(path))
    key, vector = StreamKey('camera', 'What?', 'other'), fake_models.color_vector('red')
    other.record(Embedding(START_NS, 0, key, vector))
    other.close()
    harness = QueryHarness(
        bench, predict_error(NotStoredError('no frames are stored')), memory_path=str(path)
    )
    response = harness.ask(start=stamp(START_NS), end=stamp(START_NS + 1800 * MS))
    assert not response.success and response.error_code == Query.Response.NOT_STORED
    refusal, _, note = response.message.partition('; ')
    assert refusal == 'no frames are stored' and 'other models' in note and numbers(note) == [1]
    found = bench.call(Search, 'search', Search.Request(text='red'))
    assert found.success and not found.moments and found.message == note


def test_an_answer_from_memory_has_the_stamps_of_its_hops(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_error(NotStoredError('no frames are stored')))
    harness.fill_memory()
    odd = 77 * MS  # between two frames
    for span, first, last in (
        ({'start': stamp(START_NS + odd), 'end': stamp(START_NS + 700 * MS)}, 200, 600),
        ({'end': stamp(START_NS + 700 * MS)}, 0, 600),
        ({'start': stamp(START_NS + 3500 * MS), 'end': stamp(NOW)}, 3600, 3800),
    ):
        response = harness.ask(**span)
        assert response.basis == Query.Response.BASIS_MEMORY
        [moment] = response.evidence
        assert moment.start == stamp(START_NS + first * MS)
        assert moment.end == response.stamp == stamp(START_NS + last * MS)


def test_a_span_without_stored_data_reports_the_error_of_predict(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_error(NotStoredError('no frames are stored')))
    response = harness.ask(start=stamp(5_000_000_000), end=stamp(6_000_000_000))
    assert (response.success, response.message) == (False, 'no frames are stored')
    assert response.error_code == Query.Response.NOT_STORED
    assert response.abstain_reason == Query.Response.ABSTAIN_NOT_SEEN


def test_services_return_inactive_before_configure(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'), up=False)
    for response in (harness.ask(), bench.call(Search, 'search', Search.Request(text='red'))):
        assert not response.success and response.error_code == Query.Response.INACTIVE
        assert 'query_node' in response.message and 'unconfigured' in response.message
    bench.do(harness.node, harness.node.bring_up)
    assert harness.ask().success
    bench.do(harness.node, harness.node.trigger_deactivate)
    assert harness.ask().error_code == Query.Response.INACTIVE


def test_a_pending_question_returns_inactive_at_cleanup(bench: Bench) -> None:
    requested, released = threading.Event(), threading.Event()

    async def predict(request: Any, response: Any) -> Any:
        requested.set()
        while not released.is_set():
            await pause(bench)
        return predict_color('red')(request, response)

    bench.probe.create_service(
        Predict, 'predict', predict, callback_group=ReentrantCallbackGroup()
    )
    node = QueryHarness(bench).node
    logged: list[str] = []
    node.get_logger().error = logged.append
    client = bench.probe.create_client(Query, 'query')
    assert client.wait_for_service(5)
    future = client.call_async(Query.Request(prompt='What?'))
    assert requested.wait(5)
    bench.do(node, node.bring_down)
    released.set()
    eventually(future.done)
    assert not future.result().success
    assert future.result().error_code == Query.Response.INACTIVE
    assert logged == []


# Scenes and texts that are unfamiliar or unreadable to the model.


def unfamiliar(share: float) -> Any:
    """Return a `predict` of red in a scene with this unfamiliarity."""

    def answer(request: Predict.Request, response: Predict.Response) -> Predict.Response:
        predict_color('red')(request, response)
        response.looks[0].unfamiliar = share
        return response

    return answer


@pytest.mark.parametrize('candidates', [[], ['red', 'blue']])
def test_the_answer_about_an_unfamiliar_scene_is_withheld(
    bench: Bench, candidates: list[str]
) -> None:
    response = QueryHarness(bench, unfamiliar(0.5)).ask(candidates=candidates)
    assert response.success and response.abstained
    assert response.abstain_reason == Query.Response.ABSTAIN_UNFAMILIAR
    assert (response.answer, response.confidence, response.ranked) == ('', 0.0, [])
    assert response.unfamiliar == 0.5 and response.vector == floats('red')


def test_a_familiar_enough_scene_is_answered(bench: Bench) -> None:
    response = QueryHarness(bench, unfamiliar(0.25)).ask()
    assert (response.answer, response.abstained) == ('the scene is red', False)
    assert response.unfamiliar == 0.25
    assert response.abstain_reason == Query.Response.ABSTAIN_NONE


@pytest.mark.parametrize(
    ('prompt', 'candidates', 'abstained'),
    [
        (f'Is it {fake_models.UNREADABLE} ?', ['red', 'blue'], True),
        ('What?', [fake_models.UNREADABLE, f'a {fake_models.UNREADABLE}'], True),
        ('What?', [fake_models.UNREADABLE, 'red'], True),
        ('', [], False),
    ],
)
def test_an_unreadable_question_is_an_abstention(
    bench: Bench, prompt: str, candidates: list[str], abstained: bool
) -> None:
    response = QueryHarness(bench, unfamiliar(0.9 if abstained else 0.0)).ask(
        prompt, candidates=candidates
    )
    assert response.success and response.abstained is abstained
    unreadable = Query.Response.ABSTAIN_UNREADABLE  # takes precedence over UNFAMILIAR
    assert response.abstain_reason == (unreadable if abstained else 0)
    assert (response.answer == '') is abstained
    assert (fake_models.UNREADABLE in response.message) is abstained


def test_a_watch_does_not_count_unfamiliar_hops(bench: Bench) -> None:
    watcher = Watcher(bench, watch_hops=2)
    handle = watcher.goal(condition='it is blue')
    ceased = watcher.goal(condition='it is red', until_not=True)
    for n, share in enumerate([0.0, 0.9, 0.0]):
        watcher.hops.publish(hop('blue', n, unfamiliar=share))
        eventually(lambda n=n: len(watcher.feedback) >= 2 * (n + 1))
    assert watcher.harness.watch_count == 2
    third = {f.stamp.nanosec // MS: f for f in watcher.feedback}[200]
    assert (third.score, round(third.unfamiliar, 3)) == (0.0, 0.9)
    watcher.hops.publish(hop('blue', 3))
    for goal in (handle, ceased):
        result = watcher.result(goal).result
        assert result.fired and result.moment.end == stamp(START_NS + 600 * MS)
        assert result.error_code == Watch.Result.OK


def test_a_watch_that_ends_in_an_unfamiliar_scene_reports_it(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is blue', timeout=Duration(nanosec=500 * MS))
    watcher.hops.publish(hop('blue', 0, unfamiliar=1.0))
    result = watcher.result(handle).result
    assert result.error_code == Watch.Result.TIMEOUT
    assert result.abstain_reason == Watch.Result.ABSTAIN_UNFAMILIAR


def test_an_unreadable_condition_is_aborted(bench: Bench) -> None:
    watcher = Watcher(bench)
    found = watcher.result(watcher.goal(condition=f'it is {fake_models.UNREADABLE}'))
    assert found.status == GoalStatus.STATUS_ABORTED
    assert found.result.error_code == Watch.Result.BAD_INPUT
    assert fake_models.UNREADABLE in found.result.message


def test_an_unfamiliar_span_is_not_answered_from_memory(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_error(NotStoredError('no frames are stored')))
    hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    for n in range(4):
        hops.publish(hop('red', n, unfamiliar=0.75))
    eventually(lambda: harness.node.health.counts['embeddings'] == 4 and not harness.node.backlog)
    response = harness.ask(start=stamp(START_NS))
    assert response.basis == Query.Response.BASIS_MEMORY and response.unfamiliar == 0.75
    assert response.abstain_reason == Query.Response.ABSTAIN_UNFAMILIAR
    assert response.answer == ''


# Bad input.


@pytest.mark.parametrize(
    ('fields', 'tokens'),
    [
        ({'prompt': 'x' * 10_000_000}, ['prompt', '10,000,000 characters']),
        ({'candidates': ['a', ' ']}, ['candidate', 'empty']),
        ({'candidates': ['a', 'y' * 5000]}, ['candidate', '5,000 characters']),
        ({'candidates': ['a'] * 1001}, ['1001 candidates']),
        ({'radius': float('nan')}, ['radius', 'nan']),
        ({'source': '*'}, ['source', "'*'"]),
    ],
)
def test_a_bad_question_is_refused_before_anything_is_computed(
    bench: Bench, fields: dict[str, Any], tokens: list[str]
) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    response = harness.ask(**fields)
    assert not response.success
    assert all(token in response.message for token in tokens)
    assert response.error_code == Query.Response.BAD_INPUT
    assert response.answer == ''
    assert harness.predict_requests == []
    assert harness.node.health.counts['requests refused'] == 1
    assert harness.ask().answer == 'the scene is red'


def test_an_empty_prompt_asks_for_a_description(bench: Bench) -> None:
    response = QueryHarness(bench, predict_color('green')).ask('')
    assert (response.success, response.answer) == (True, 'the scene is green')


def test_a_question_before_the_first_frame_returns_no_frame(bench: Bench) -> None:
    response = QueryHarness(bench, predict_error(NoFrameError('no frame yet'))).ask()
    assert (response.success, response.message) == (False, 'no frame yet')
    assert response.error_code == Query.Response.NO_FRAME
    assert response.abstain_reason == Query.Response.ABSTAIN_NOT_SEEN
    assert response.abstained  # for clients that check only this field


def test_embeddings_of_another_model_are_not_decoded(bench: Bench) -> None:
    def foreign(request: Any, response: Any) -> Any:
        response = predict_color('red')(request, response)
        response.model_id = 'other-1-2'
        return response

    harness = QueryHarness(bench, foreign)
    harness.fill_memory()
    for span in ({}, {'start': stamp(START_NS), 'end': stamp(START_NS + 900 * MS)}):
        response = harness.ask(**span)
        assert not response.success
        assert response.error_code == Query.Response.MODEL_MISMATCH
        for model_id in ('other-1-2', fake_models.FACTS.model_id):
            assert model_id in response.message
    assert harness.language.decoded == 0


def test_streams_of_other_models_are_not_stored(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    harness = QueryHarness(bench, predict_color('red'), memory_path=str(path))
    hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    hops.publish(hop('red', 0, model_id='other-1-2'))
    hops.publish(hop('blue', 1))
    eventually(lambda: harness.node.health.counts['embeddings'] == 2 and not harness.node.backlog)
    problem = values_of(bench.status(harness.node, lambda s: s.level == b'\x01'))['last problem']
    assert "'other-1-2'" in problem and fake_models.FACTS.model_id in problem
    assert harness.node.health.counts['refused'] == 1
    stored = Store(path, read_only=True)
    eventually(stored.streams, 5.0)  # the node commits once a second
    [key] = stored.streams()
    assert key.model_id == fake_models.FACTS.model_id
    assert stored.hops(key).stamps_ns.tolist() == [START_NS + 200 * MS]


# The memory's file.


def test_stored_data_survives_a_restart_of_the_node(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    harness = QueryHarness(bench, memory_path=str(path))
    harness.fill_memory()
    before = bench.call(Search, 'search', Search.Request(text='red'))
    bench.do(harness.node, harness.node.bring_down)
    assert bench.do(harness.node, harness.node.bring_up)
    after = bench.call(Search, 'search', Search.Request(text='red'))
    assert before.success and [m.text for m in before.moments] == ['it was red', '']
    assert after == before
    assert values_of(bench.status(harness.node, lambda s: True))['stored sources'] == 'camera'


def test_the_memory_is_committed_every_second(bench: Bench, tmp_path: Path) -> None:
    harness = QueryHarness(bench, memory_path=str(tmp_path / 'memory.db'))
    harness.fill_memory()
    reader = Store(tmp_path / 'memory.db', read_only=True)
    key = StreamKey('camera', 'What?', fake_models.FACTS.model_id)
    eventually(lambda: len(reader.hops(key)[0]) == 20, 3.0)


def test_get_state_answers_while_a_big_memory_is_read(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, threads = threading.Event(), threading.Event(), list[str]()

    class Big(Memory):
        def __init__(self, *args: Any, **options: Any) -> None:
            threads.append(threading.current_thread().name)
            begun.set()
            assert go.wait(10)
            super().__init__(*args, **options)

    monkeypatch.setitem(QueryNode.open_storage.__globals__, 'Memory', Big)
    pool = fake_pool(lambda: Model(fake_models.FACTS, None, fake_models.FakeLanguage()))
    node = bench.start(QueryNode, pool, up=False, memory_path=str(tmp_path / 'memory.db'))
    client = bench.probe.create_client(ChangeState, 'query_node/change_state')
    assert client.wait_for_service(5)
    configure = Transition(id=Transition.TRANSITION_CONFIGURE)
    changed = client.call_async(ChangeState.Request(transition=configure))
    assert begun.wait(5)
    state = bench.call(GetState, 'query_node/get_state', GetState.Request()).current_state
    assert state.label == 'unconfigured' and threads == ['language'] and not changed.done()
    go.set()
    eventually(changed.done)
    assert changed.result().success and node.phase == 'inactive'


def test_a_file_that_is_not_a_memory_fails_configure_with_one_line(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / 'notes').write_text('no database ' * 1000)
    pool = fake_pool(lambda: Model(fake_models.FACTS, None, fake_models.FakeLanguage()))
    node = bench.start(QueryNode, pool, up=False, memory_path=str(tmp_path / 'notes'))
    lines: list[str] = []
    node.get_logger().error = lines.append
    assert not bench.do(node, node.bring_up)
    [line] = lines
    assert line.startswith('cannot configure: ') and 'notes cannot be used: ' in line


def test_a_full_disk_sets_a_condition_and_the_node_continues(
    bench: Bench, tmp_path: Path, disk: Disk
) -> None:
    harness = QueryHarness(bench, memory_path=str(tmp_path / 'memory.db'))
    disk.fill()
    harness.fill_memory()
    status = bench.status(harness.node, lambda s: 'full' in s.message)
    assert status.level == b'\x01'
    assert bench.call(Search, 'search', Search.Request(text='red')).success
    disk.clear()
    bench.status(harness.node, lambda s: s.level == b'\x00')


def test_questions_and_the_stream_do_not_wait_for_a_locked_file(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / 'memory.db'
    harness = QueryHarness(bench, predict_color('red'), memory_path=str(path))
    harness.fill_memory()
    other = locked(path)
    hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    began_s = time.monotonic()
    for number in range(20, 120):
        hops.publish(hop('blue', number))
        if number % 10 == 0:
            assert harness.ask('What?').success
            assert harness.stored_moments()
    eventually(lambda: harness.node.health.counts['embeddings'] == 120)
    assert harness.stored_moments()
    assert time.monotonic() - began_s < 10.0
    status = bench.status(harness.node, lambda s: 'database is locked' in s.message)
    assert 'changes wait in RAM' in status.message
    other.execute('ROLLBACK')
    bench.status(harness.node, lambda s: s.level == b'\x00')
    key = StreamKey('camera', 'What?', fake_models.FACTS.model_id)
    eventually(lambda: len(Store(path, read_only=True).hops(key).stamps_ns) == 120)


def test_a_disk_that_is_full_at_startup_keeps_the_memory_in_ram(
    bench: Bench, tmp_path: Path, full_disk: None
) -> None:
    harness = QueryHarness(bench, memory_path=str(tmp_path / 'memory.db'))
    harness.fill_memory()
    status = bench.status(harness.node, lambda s: 'full' in s.message)
    assert status.level == b'\x01' and str(tmp_path / 'memory.db') in status.message
    found = bench.call(Search, 'search', Search.Request(text='red'))
    assert found.success and found.moments


# predict missing or hung; a dead one is a matter of processes (test/system).


def test_missing_predict_service_is_reported_within_the_timeout(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_timeout=0.5)
    began_s = time.monotonic()
    response = harness.ask()
    assert 0.5 <= time.monotonic() - began_s < 2
    assert not response.success
    assert response.error_code == Query.Response.UNAVAILABLE
    assert f'{bench.namespace}/predict' in response.message and '0.5 s' in response.message


def test_a_question_waits_for_a_predict_service_that_starts_later(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_timeout=5.0)
    threading.Timer(
        0.4,
        lambda: bench.probe.create_service(
            Predict, 'predict', predict_color('red'), callback_group=ReentrantCallbackGroup()
        ),
    ).start()
    assert harness.ask().answer == 'the scene is red'


def test_a_prediction_over_the_past_has_a_longer_timeout(bench: Bench) -> None:
    async def predict(request: Any, response: Any) -> Any:
        until_s = time.monotonic() + 1.2
        while time.monotonic() < until_s:
            await pause(bench)
        return predict_color('red')(request, response)

    bench.probe.create_service(
        Predict, 'predict', predict, callback_group=ReentrantCallbackGroup()
    )
    harness = QueryHarness(bench, predict_timeout=0.5)
    response = harness.ask(start=stamp(START_NS), end=stamp(NOW))
    assert response.success and response.basis == Query.Response.BASIS_FRAMES
    now = harness.ask()
    assert now.error_code == Query.Response.UNAVAILABLE and '0.5 s' in now.message


def test_a_hung_predict_is_reported_within_the_timeout_and_the_next_answer_is_correct(
    bench: Bench,
) -> None:
    answers: list[Any] = [None, predict_color('blue')]
    released = threading.Event()

    async def predict(request: Any, response: Any) -> Any:
        answer = answers.pop(0)
        if answer is None:
            while not released.is_set():
                await pause(bench)
            return predict_color('red')(request, response)
        return answer(request, response)

    bench.probe.create_service(
        Predict, 'predict', predict, callback_group=ReentrantCallbackGroup()
    )
    harness = QueryHarness(bench, predict_timeout=0.5)
    response = harness.ask()
    assert not response.success and response.error_code == Query.Response.UNAVAILABLE
    assert f'{bench.namespace}/predict' in response.message and '0.5 s' in response.message
    released.set()
    assert harness.ask().answer == 'the scene is blue'


async def pause(bench: Bench) -> None:
    from rclpy.task import Future

    future: Future = Future()
    timer = bench.probe.create_timer(0.02, lambda: future.set_result(None))
    await future
    bench.probe.destroy_timer(timer)


def test_64_questions_at_once_are_all_answered(bench: Bench) -> None:
    QueryHarness(bench, predict_color('red'))
    deep = QoSProfile(depth=256)
    client = bench.probe.create_client(Query, 'query', qos_profile=deep)
    assert client.wait_for_service(5)
    futures = [client.call_async(Query.Request(prompt=f'Question {n}?')) for n in range(64)]
    eventually(lambda: all(f.done() for f in futures), 20.0)
    assert [f.result().answer for f in futures] == ['the scene is red'] * 64


def test_an_answer_does_not_wait_for_a_timer(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    latencies = sorted(harness.ask().latency.nanosec for _ in range(9))
    assert latencies[4] < 300 * MS  # the next timer would be the diagnostics', once a second


def test_requests_beyond_the_limit_are_busy(bench: Bench) -> None:
    QueryHarness(bench, max_waiting=1, predict_timeout=1.0)
    client = bench.probe.create_client(Query, 'query')
    assert client.wait_for_service(5)
    first, second = (client.call_async(Query.Request(prompt='a')) for _ in range(2))
    eventually(lambda: first.done() and second.done())
    assert sorted([first.result().error_code, second.result().error_code]) == [
        Query.Response.BUSY,
        Query.Response.UNAVAILABLE,
    ]


class FaultyLanguage(fake_models.FakeLanguage):
    """Text side that fails once."""

    def decode(self, vectors: Any, asked: bool = False) -> Any:
        if self.decoded == 0:
            self.decoded = 1
            raise RuntimeError('no memory')
        return super().decode(vectors, asked)


def test_an_exception_in_the_model_thread_is_reported_and_the_node_continues(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'), FaultyLanguage())
    response = harness.ask()
    assert not response.success and response.error_code == Query.Response.INTERNAL
    assert response.message == 'RuntimeError: no memory'
    assert harness.node.health.counts['requests failed'] == 1
    assert harness.ask().answer == 'the scene is red'


# Search.


def test_search_returns_stored_moments_best_first(bench: Bench) -> None:
    harness = QueryHarness(bench)
    harness.fill_memory()
    response = bench.call(Search, 'search', Search.Request(text='something red'))
    assert response == Search.Response(
        success=True,
        model_id=fake_models.FACTS.model_id,
        moments=[
            Moment(
                source='camera',
                start=stamp(START_NS),
                end=stamp(START_NS + 1800 * MS),
                score=1.0,
                text='it was red',
            ),
            Moment(
                source='camera',
                start=stamp(START_NS + 2000 * MS),
                end=stamp(START_NS + 3800 * MS),
                score=0.0,
            ),
        ],
    )
    one = bench.call(Search, 'search', Search.Request(text='blue', limit=1))
    assert [m.start for m in one.moments] == [stamp(START_NS + 2000 * MS)]


@pytest.mark.parametrize(
    ('fields', 'tokens'),
    [
        ({'text': ''}, ['text', 'empty']),
        ({'text': 'x' * 5000}, ['text', '5,000 characters', '4,096']),
        ({'text': 'red', 'source': 'rear'}, ["'rear'", 'camera']),
        ({'text': 'red qzxv'}, ['text', "'fake'", "'red qzxv'"]),
        ({'text': 'red', 'source': '*'}, ['source', "'*'"]),
        ({'text': 'red', 'radius': 2.0}, ['radius', '2 m']),
        ({'like': Moment(source='camera')}, ["'like'"]),
        ({'image': CompressedImage(data=b'1')}, ["'image'"]),
    ],
)
def test_a_bad_search_is_refused(bench: Bench, fields: dict[str, Any], tokens: list[str]) -> None:
    harness = QueryHarness(bench)
    harness.fill_memory()
    response = bench.call(Search, 'search', Search.Request(**fields))
    assert not response.success and all(token in response.message for token in tokens)
    assert response.error_code == Search.Response.BAD_INPUT
    assert bench.call(Search, 'search', Search.Request(text='red')).success


# Watching.


class Watcher:
    """Publishes embeddings and sends Watch goals."""

    def __init__(self, bench: Bench, **values: Any) -> None:
        self.bench = bench
        self.harness = QueryHarness(bench, **values)
        self.node = self.harness.node
        self.client: ActionClient = bench.action(Watch, 'watch')
        self.hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
        self.feedback: list[Watch.Feedback] = []

    def goal(self, **fields: Any) -> Any:
        """Send a goal and return its handle.

        It is sent in the executor of the client: rclpy drops a response that it processes before
        `send_goal_async` returns.
        """
        future = self.bench.do(
            self.bench.probe,
            self.client.send_goal_async,
            Watch.Goal(**fields),
            lambda m: self.feedback.append(m.feedback),
        )
        eventually(future.done)
        return future.result()

    def result(self, handle: Any) -> Any:
        """Return the result of a goal."""
        future = self.bench.do(self.bench.probe, handle.get_result_async)
        eventually(future.done)
        return future.result()

    def cancel(self, handle: Any) -> Any:
        """Cancel a goal and return the response."""
        future = self.bench.do(self.bench.probe, handle.cancel_goal_async)
        eventually(future.done)
        return future.result()


def test_a_watch_fires_after_consecutive_hops(bench: Bench) -> None:
    watcher = Watcher(bench, watch_hops=2)
    handle = watcher.goal(condition='it is blue')
    for n, color in enumerate(['blue', 'red', 'blue', 'blue']):
        watcher.hops.publish(hop(color, n))
        eventually(lambda n=n: len(watcher.feedback) > n)
    assert watcher.result(handle).result.moment.end == stamp(START_NS + 3 * 200 * MS)


def test_a_watch_times_out_without_a_clock_and_reports_that_it_is_missing(bench: Bench) -> None:
    watcher = Watcher(bench, use_sim_time=True)  # and /clock has no publisher
    handle = watcher.goal(condition='it is blue', timeout=Duration(nanosec=200 * MS))
    result = watcher.result(handle).result
    assert (result.fired, result.error_code) == (False, Watch.Result.TIMEOUT)
    assert '/clock' in result.message


def test_the_first_clock_message_does_not_end_a_watch(bench: Bench) -> None:
    """ROS time jumps from 0 to the time of the bag."""
    watcher = Watcher(bench, use_sim_time=True)
    clock = bench.publisher(Clock, '/clock')
    handle = watcher.goal(condition='it is blue', timeout=Duration(sec=1000))
    clock.publish(Clock(clock=stamp(START_NS + 10**13)))
    eventually(lambda: watcher.node.now_ns() > 0)
    watcher.hops.publish(hop('blue', 0))
    assert watcher.result(handle).result.fired


def test_stamps_of_the_future_delete_no_stored_data(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    watcher = Watcher(bench, memory_path=str(path), memory_kept=100.0, memory_hops_kept=100.0)
    month = 30 * 86_400 * 5
    numbers = [*range(100), *(n + month for n in range(100, 115)), *range(115, 130)]
    for count, n in enumerate(numbers, 1):
        watcher.hops.publish(hop('red', n, reset_count=n // month))
        eventually(lambda count=count: watcher.node.health.counts['embeddings'] == count)
    bench.do(watcher.node, watcher.node.bring_down)
    key = StreamKey('camera', 'What?', fake_models.FACTS.model_id)
    stamps = Store(path, read_only=True).hops(key).stamps_ns
    assert stamps.tolist() == [START_NS + n * 200 * MS for n in (*range(100), *range(115, 130))]


def test_a_watch_fires_when_the_condition_holds(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is blue')
    assert handle.accepted
    for n in range(2):
        watcher.hops.publish(hop('red', n))
        eventually(lambda n=n: len(watcher.feedback) > n)
    watcher.hops.publish(hop('blue', 2))
    found = watcher.result(handle)
    assert found.status == GoalStatus.STATUS_SUCCEEDED
    assert found.result == Watch.Result(
        fired=True,
        confidence=1.0,
        moment=Moment(
            source='camera',
            start=stamp(START_NS - 300 * MS),
            end=stamp(START_NS + 400 * MS),
            score=1.0,
            text='it is blue',
        ),
    )
    # rclpy's client drops a goal with its result: the last feedback may come after that.
    assert [(f.score, f.stamp) for f in watcher.feedback[:2]] == [
        (0.0, stamp(START_NS)),
        (0.0, stamp(START_NS + 200 * MS)),
    ]


def test_a_watch_until_not_fires_when_it_no_longer_holds(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is red', until_not=True)
    for n, color in enumerate(['red', 'red', 'blue']):
        watcher.hops.publish(hop(color, n))
    found = watcher.result(handle)
    assert found.result.fired
    assert found.result.moment.end == stamp(START_NS + 400 * MS)
    assert found.result.confidence == 1.0


def test_the_threshold_of_a_goal_overrides_the_parameter(bench: Bench) -> None:
    watcher = Watcher(bench, watch_threshold=0.9)
    half = array.array(
        'f', np.array([0, 0.8, 0, 0.6, 0, 0, 0, 0], np.float32).tobytes()
    )  # red 0.8, blue 0.6
    nodes, goals = watcher.goal(condition='red'), watcher.goal(condition='red', threshold=0.7)
    watcher.hops.publish(hop('red', 0, vector=half))
    assert watcher.result(goals).result.fired
    assert watcher.harness.watch_count == 1
    watcher.hops.publish(hop('red', 1))
    assert watcher.result(nodes).result.moment.end == stamp(START_NS + 200 * MS)


def test_a_watch_ends_with_its_timeout(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is blue', timeout=Duration(nanosec=300 * MS))
    watcher.hops.publish(hop('red', 0))
    found = watcher.result(handle)
    assert found.status == GoalStatus.STATUS_SUCCEEDED
    assert not found.result.fired and found.result.error_code == Watch.Result.TIMEOUT
    assert watcher.harness.watch_count == 0


def test_the_timeout_is_in_ros_time_so_a_paused_bag_does_not_end_it(bench: Bench) -> None:
    watcher = Watcher(bench, use_sim_time=True)
    clock = bench.publisher(Clock, '/clock')

    def tick(time_ns: int) -> None:
        clock.publish(Clock(clock=stamp(time_ns)))
        eventually(lambda: watcher.node.get_clock().now().nanoseconds == time_ns)

    tick(START_NS)
    handle = watcher.goal(condition='it is blue', timeout=Duration(nanosec=200 * MS))
    result = bench.do(bench.probe, handle.get_result_async)
    tick(START_NS + 100 * MS)
    for _ in range(2):  # diagnostics are published once per second of the steady clock
        bench.status(watcher.node, lambda s: True)
    assert not result.done()
    tick(START_NS + 300 * MS)
    eventually(result.done)
    ended = result.result().result
    assert not ended.fired and ended.error_code == Watch.Result.TIMEOUT
    assert ended.abstain_reason == Watch.Result.ABSTAIN_NOT_SEEN  # no hop came


def test_a_watch_can_be_canceled_without_embeddings(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is blue')
    assert len(watcher.cancel(handle).goals_canceling) == 1
    found = watcher.result(handle)
    assert found.status == GoalStatus.STATUS_CANCELED
    assert not found.result.fired and found.result.error_code == Watch.Result.CANCELED


def test_canceling_one_watch_does_not_end_others(bench: Bench) -> None:
    watcher = Watcher(bench)
    first, second = (watcher.goal(condition='it is blue') for _ in range(2))
    watcher.cancel(first)
    assert watcher.result(first).status == GoalStatus.STATUS_CANCELED
    watcher.hops.publish(hop('blue', 0))
    assert watcher.result(second).result.fired


@pytest.mark.parametrize(
    ('fields', 'tokens'),
    [
        ({'condition': ''}, ['condition', 'empty']),
        ({'condition': 'a', 'threshold': 2.0}, ['threshold', '2.0']),
        ({'condition': 'x' * 5000}, ['condition', '5,000 characters']),
        ({'condition': 'word ' * 70}, ['text', '70 words']),
        ({'condition': 'a', 'timeout': Duration(sec=-1)}, ['timeout', '-1 s']),
        ({'condition': 'a', 'source': '*'}, ['source', "'*'"]),
        ({'like': Moment(source='camera')}, ["'like'"]),
        ({'image': CompressedImage(format='jpeg')}, ["'image'"]),
    ],
)
def test_a_bad_goal_is_aborted_with_the_reason(
    bench: Bench, fields: dict[str, Any], tokens: list[str]
) -> None:
    """A rejection could not give the reason, because ROS has no field for it."""
    watcher = Watcher(bench)
    logged: list[str] = []
    watcher.node.get_logger().warning = logged.append
    found = watcher.result(watcher.goal(**fields))
    assert found.status == GoalStatus.STATUS_ABORTED and not found.result.fired
    assert all(token in found.result.message for token in tokens)
    assert found.result.error_code == Watch.Result.BAD_INPUT
    [line] = logged
    assert found.result.message in line
    assert watcher.node.health.counts['goals refused'] == 1
    assert watcher.goal(condition='a').accepted
    eventually(lambda: watcher.harness.watch_count == 1)


def test_a_goal_canceled_before_its_watch_starts_ends(bench: Bench) -> None:
    """rclpy may receive a goal and its cancellation together, and execute the goal afterwards."""
    watcher = Watcher(bench)
    accepted: list[Any] = []
    [server] = (w for w in watcher.node.waitables if isinstance(w, ActionServer))
    server.register_handle_accepted_callback(accepted.append)
    handle = watcher.goal(condition='it is blue')
    watcher.cancel(handle)
    bench.do(watcher.node, accepted[0].execute)
    found = watcher.result(handle)
    assert (
        found.status == GoalStatus.STATUS_CANCELED
        and found.result.error_code == Watch.Result.CANCELED
    )


class Faulty(fake_models.FakeLanguage):
    """Text side that fails on one text."""

    def similarity(self, vectors: Any, text: str) -> Any:
        if text == 'fail':
            raise RuntimeError('no memory')
        return super().similarity(vectors, text)


def test_a_condition_that_cannot_be_scored_does_not_affect_others(bench: Bench) -> None:
    watcher = Watcher(bench, language=Faulty())
    assert watcher.goal(condition='fail').accepted
    handle = watcher.goal(condition='it is blue')
    watcher.hops.publish(hop('blue', 0))
    assert watcher.result(handle).result.fired
    assert watcher.node.health.counts['errors in the model thread'] == 1


def test_feedback_comes_from_the_watched_source_only(bench: Bench) -> None:
    watcher = Watcher(bench)
    watcher.goal(condition='it is blue', source='front')
    watcher.goal(condition='it is blue', source='rear')
    for n, source in enumerate(['rear', 'front', 'elsewhere', 'front']):
        watcher.hops.publish(hop('red', n, source=source))
    eventually(lambda: len(watcher.feedback) >= 3)
    watcher.hops.publish(hop('red', 4, source='rear'))  # its feedback follows all others
    eventually(lambda: watcher.feedback[-1].stamp == stamp(START_NS + 800 * MS))
    stamps = sorted(f.stamp.nanosec // MS for f in watcher.feedback)
    assert stamps == [0, 200, 600, 800]  # rear, front, front, rear


def test_watches_on_unknown_sources_are_aborted_after_model_info(bench: Bench) -> None:
    watcher = Watcher(bench)
    early = watcher.goal(condition='it is blue', source='raer')
    front = watcher.goal(condition='it is blue', source='front')
    assert early.accepted and front.accepted
    bench.status(
        watcher.node,
        lambda s: all(
            text in values_of(s).get('last problem', '')
            for text in ('model_info', 'front', 'raer')
        ),
    )
    info = bench.publisher(ModelInfo, 'model_info', LATCHED)
    info.publish(ModelInfo(sources=['front', 'rear']))
    found = watcher.result(early)
    again = watcher.result(watcher.goal(condition='it is blue', source='raer'))
    for ended in (found, again):
        assert ended.status == GoalStatus.STATUS_ABORTED
        assert ended.result.error_code == Watch.Result.BAD_INPUT
        assert "'raer'" in ended.result.message and 'front, rear' in ended.result.message
    problem = values_of(bench.status(watcher.node, lambda s: True))['last problem']
    assert again.result.message in problem
    watcher.hops.publish(hop('blue', 0, source='front'))
    assert watcher.result(front).result.fired


def test_an_invalid_watch_threshold_fails_configure(bench: Bench) -> None:
    node = bench.start(QueryNode, up=False, watch_threshold=0.0)
    logged: list[str] = []
    node.get_logger().error = logged.append
    assert not bench.do(node, node.bring_up)
    [line] = logged
    assert line.startswith('cannot configure: ') and 'watch_threshold' in line


def test_goals_are_refused_while_inactive_and_aborted_by_deactivation(bench: Bench) -> None:
    watcher = Watcher(bench)
    handle = watcher.goal(condition='it is blue')
    bench.do(watcher.node, watcher.node.trigger_deactivate)
    found = watcher.result(handle)
    assert found.status == GoalStatus.STATUS_ABORTED
    assert not found.result.fired and found.result.error_code == Watch.Result.INACTIVE
    assert not watcher.goal(condition='it is blue').accepted
    problem = values_of(bench.status(watcher.node, lambda s: True))['last problem']
    assert 'query_node' in problem and 'inactive' in problem


def test_64_watches_at_once_all_fire_and_one_more_is_busy(bench: Bench) -> None:
    watcher = Watcher(bench, max_waiting=64)
    deep = QoSProfile(depth=256)
    client = ActionClient(
        bench.probe,
        Watch,
        'watch',
        goal_service_qos_profile=deep,
        result_service_qos_profile=deep,
        cancel_service_qos_profile=deep,
        feedback_sub_qos_profile=RELIABLE,
    )
    assert client.wait_for_server(5)
    goal = Watch.Goal(condition='it is blue')
    sent = [bench.do(bench.probe, client.send_goal_async, goal) for _ in range(64)]
    eventually(lambda: all(f.done() for f in sent), 20.0)
    assert all(f.result().accepted for f in sent)
    assert not watcher.goal(condition='it is blue').accepted
    results = [bench.do(bench.probe, f.result().get_result_async) for f in sent]
    eventually(lambda: watcher.harness.watch_count == 64)
    watcher.hops.publish(hop('blue', 0))
    eventually(lambda: all(f.done() for f in results), 20.0)
    assert all(f.result().result.fired for f in results)
    client.destroy()
