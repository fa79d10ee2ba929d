# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.fake_models import UNREADABLE
from helpers.node_harness import LATCHED, Bench
from helpers.scripts import load_script
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from vljepa_ros.msg import ModelInfo

from vljepa_ros.core.settings import (
    AnswerSettings,
    FrameStoreSettings,
    MemorySettings,
    PerceptionSettings,
    SegmenterSettings,
)
from vljepa_ros.nodes import launch_arguments as launching
from vljepa_ros.nodes import parameters
from vljepa_ros.nodes.change_detection import ChangeDetectionNode
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode
from vljepa_ros.nodes.view import ViewNode

ROOT = Path(__file__).parents[2]
KINDS: dict[str, Any] = {
    'perception_node': PerceptionNode,
    'change_detection_node': ChangeDetectionNode,
    'decoder_node': DecoderNode,
    'query_node': QueryNode,
    'view_node': ViewNode,
}


def flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f'{prefix}{key}.')
        else:
            found[prefix + key] = value
    return found


def test_the_parameter_file_is_generated_from_the_declarations() -> None:
    generated = load_script('tools/config_file.py').config_text()
    assert (ROOT / 'config' / 'vljepa.yaml').read_text() == generated, 'run make config'


@pytest.mark.parametrize('name', KINDS)
def test_the_parameter_file_lists_every_parameter_with_its_default(name: str) -> None:
    file = yaml.safe_load((ROOT / 'config' / 'vljepa.yaml').read_text())
    specs = parameters.TABLE[name]
    if name in ('perception_node', 'view_node'):
        specs = (*specs, *parameters.camera_specs('camera'))
    defaults = {spec.name: spec.default for spec in specs}
    if name in ('decoder_node', 'query_node'):
        del defaults['device']  # depends on the form of the stack
    assert flat(file[f'/**/{name}']['ros__parameters']) == defaults


@pytest.mark.parametrize('name', KINDS)
def test_every_parameter_is_described(bench: Bench, name: str) -> None:
    node = bench.start(KINDS[name], up=False)
    for spec in node.all_specs():
        described = node.describe_parameter(spec.name)
        assert len(described.description) > 15, spec.name
        assert described.read_only == spec.read_only
        if isinstance(spec.default, float) or (
            isinstance(spec.default, int)
            and not isinstance(spec.default, bool)
            and not spec.choices
        ):
            assert described.floating_point_range or described.integer_range, spec.name
        if spec.choices:
            assert all(str(c) in described.additional_constraints for c in spec.choices)


def test_parameters_are_converted_to_core_settings() -> None:
    defaults = {s.name: s.default for specs in parameters.TABLE.values() for s in specs}
    assert parameters.perception_settings(defaults) == PerceptionSettings()
    assert parameters.segmenter_settings(defaults) == SegmenterSettings()
    assert parameters.answer_settings(defaults) == AnswerSettings()
    assert parameters.memory_settings(defaults) == MemorySettings()
    assert parameters.frame_store_settings(defaults) == FrameStoreSettings()
    other = {
        'prompts': ['a', ''],
        'rate': 5.0,
        'max_gap': 1.5,
        'frames_kept': 7.0,
        'frames_bytes': 200_000,
        'frames_path': 'frames.db',
        'change_threshold': 0.1,
        'confirm_hops': 3,
        'min_segment': 0.2,
        'drift_threshold': 0.3,
        'events_per_minute': 20.0,
        'abstain_below': 0.4,
        'memory_kept': 9.0,
        'memory_hops_kept': 3.0,
        'memory_bytes': 200_000,
        'model': 'm',
        'device': 'd',
        'dtype': 't',
        'threads': 2,
    }
    assert parameters.perception_settings(other) == PerceptionSettings(('a', ''), 5.0, 1.5)
    assert parameters.frame_store_settings(other) == FrameStoreSettings(7.0, 200_000)
    assert parameters.segmenter_settings(other) == SegmenterSettings(0.1, 3, 0.2, 0.3, 20.0)
    assert parameters.answer_settings(other) == AnswerSettings(0.4)
    assert parameters.memory_settings(other) == MemorySettings(9.0, 3.0, 200_000)
    assert parameters.model_spec(other) == parameters.ModelSpec('m', 'd', 't', 2)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'rate': -1.0}, 'rate'),
        ({'rate': 'fast'}, 'rate'),
        ({'prompts': 5}, 'prompts'),
        ({'prompts': ['a', 'a']}, 'is listed twice'),
        ({'prompts': ['x' * 5000]}, 'prompt of 5,000 characters is too long'),
        ({'dtype': 'float8'}, "dtype is 'float8'"),
        ({'cameras': ['front', 'front']}, "'front' is listed twice"),
        ({'cameras': ['the front']}, "'the front' is invalid: use letters"),
        ({'prompts': ['word ' * 65]}, 'prompt of 65 words is too long'),
        ({'image_transport': 'theora'}, "image_transport is 'theora', but must be one of '', raw"),
        ({'camera__rotate': 45}, 'camera.rotate is'),
        ({'camera__crop': [0.5, 0.0, 0.6, 1.0]}, 'crop'),
        ({'camera__crop': [0.5, 0.5, 0.001, 0.001]}, 'at least 0.05'),
        ({'prompts': ['What?', f'Is it {UNREADABLE} ?']}, f"cannot read 'Is it {UNREADABLE} ?'"),
        ({'camera__transport': 'theora'}, "camera.transport is 'theora'"),
    ],
)
def test_a_bad_value_fails_configure_with_one_line(
    bench: Bench, values: dict[str, Any], message: str
) -> None:
    node = bench.start(PerceptionNode, up=False, **values)
    logged: list[str] = []
    node.get_logger().error = logged.append
    assert not bench.do(node, node.bring_up)
    assert node.phase == 'unconfigured'
    assert len(logged) == 1
    assert logged[0].startswith('cannot configure: ')
    assert message in logged[0]
    assert '\n' not in logged[0]
    assert message in bench.status(node, lambda s: s.level == b'\x02').message


def test_the_node_can_be_activated_after_a_value_is_corrected(bench: Bench) -> None:
    node = bench.start(PerceptionNode, up=False, rate=-1.0)
    assert not bench.do(node, node.bring_up)
    node.set_parameters([Parameter('rate', value=5.0)])
    assert bench.do(node, node.bring_up)
    assert bench.status(node, lambda s: s.level == b'\x00').message == 'active'


def test_most_parameters_change_while_unconfigured_only(bench: Bench) -> None:
    node = bench.start(ChangeDetectionNode)
    [result] = node.set_parameters([Parameter('confirm_hops', value=4)])
    assert not result.successful
    assert all(word in result.reason for word in ('confirm_hops', 'unconfigured', 'active'))
    bench.do(node, node.trigger_deactivate)
    bench.do(node, node.trigger_cleanup)
    [result] = node.set_parameters([Parameter('confirm_hops', value=4)])
    assert result.successful
    assert bench.do(node, node.bring_up)


def another(spec: parameters.Spec) -> Any:
    """Return a valid value of a parameter other than its default."""
    default = spec.default
    if spec.choices:
        return next(choice for choice in spec.choices if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, (int, float)):
        assert spec.low is not None and spec.high is not None
        return type(default)(spec.low if default != spec.low else spec.high)
    if isinstance(default, str):
        return f'{default}_other'
    return [0.25, 0.25, 0.5, 0.5] if isinstance(default[0], float) else ['other']


@pytest.mark.parametrize('name', KINDS)
def test_a_parameter_that_is_read_on_configure_is_refused_while_active(
    bench: Bench, name: str
) -> None:
    node = bench.start(KINDS[name])
    specs = node.all_specs()
    assert {spec.name for spec in parameters.TABLE[name]} <= {spec.name for spec in specs}
    for spec in specs:
        before = parameters.plain(node.get_parameter(spec.name))
        [result] = node.set_parameters([Parameter(spec.name, value=another(spec))])
        after = parameters.plain(node.get_parameter(spec.name))
        assert result.successful is spec.runtime, spec.name
        assert (after == before) is not spec.runtime, spec.name
        assert spec.name in result.reason or spec.runtime or spec.read_only, spec.name


def test_read_only_parameters_never_change(bench: Bench) -> None:
    node = bench.start(QueryNode, up=False)
    [result] = node.set_parameters([Parameter('service_depth', value=4)])
    assert not result.successful


def test_cameras_can_be_renamed_while_unconfigured(bench: Bench) -> None:
    node = bench.start(PerceptionNode, up=False)
    node.set_parameters([Parameter('cameras', value=['left', 'right'])])
    assert bench.do(node, node.bring_up)
    assert node.get_parameter('left.topic').value == 'image'


@pytest.mark.parametrize(
    ('bad', 'reason'),
    [
        ('b' * 5000, 'prompt of 5,000 characters is too long'),
        ('word ' * 65, 'prompt of 65 words is too long'),  # the model's own limit
        (f'Is it {UNREADABLE} ?', f"cannot read 'Is it {UNREADABLE} ?'"),
    ],
)
def test_one_bad_prompt_refuses_the_whole_request(bench: Bench, bad: str, reason: str) -> None:
    node = bench.start(PerceptionNode)
    before = list(node.get_parameter('prompts').value)
    response = bench.call(
        SetParametersAtomically,
        'perception_node/set_parameters_atomically',
        SetParametersAtomically.Request(
            parameters=[Parameter('prompts', value=['good', bad]).to_parameter_msg()]
        ),
    )
    assert not response.result.successful
    assert reason in response.result.reason
    assert list(node.get_parameter('prompts').value) == before


DEFAULTS = ROOT / 'config' / 'vljepa.yaml'
FRONT_AND_REAR = {
    'front': ('/f/image_raw', 'compressed'),
    'rear': ('/r/image_raw', 'compressed'),
}


def as_launched(arguments: dict[str, str], tmp_path: Path, *files: Path) -> list[Path]:
    """Return parameter files followed by the overrides of the launch arguments."""
    path = tmp_path / 'overrides.yaml'
    made = launching.override_file(launching.overrides(arguments))
    made.replace(path)
    return [*files, path]


def subscribed(node: PerceptionNode) -> dict[str, tuple[str, str]]:
    """Return each camera's topic and transport."""
    values, topics = node.describe(), {s.topic_name for s in node.subscriptions}
    found = {}
    for name in values['cameras'].split(', '):
        topic = values[f'{name}: topic']
        found[name] = topic, 'compressed' if f'{topic}/compressed' in topics else 'raw'
    return found


def test_the_default_file_works_with_any_cameras(bench: Bench, tmp_path: Path) -> None:
    arguments = {
        'cameras': 'front:=/f/image_raw,rear:=/r/image_raw',
        'image_transport': 'compressed',
    }
    node = bench.start(PerceptionNode, files=as_launched(arguments, tmp_path, DEFAULTS))
    assert subscribed(node) == FRONT_AND_REAR
    assert 'unknown' not in bench.status(node, lambda s: True).message


def test_the_launch_argument_image_transport_applies_to_every_camera_of_a_file(
    bench: Bench, tmp_path: Path
) -> None:
    own = tmp_path / 'own.yaml'
    cameras = {name: {'topic': topic} for name, (topic, _) in FRONT_AND_REAR.items()}
    values = {'cameras': ['front', 'rear'], **cameras}
    own.write_text(yaml.safe_dump({'/**/perception_node': {'ros__parameters': values}}))
    arguments = {'image_transport': 'compressed'}
    node = bench.start(PerceptionNode, files=as_launched(arguments, tmp_path, DEFAULTS, own))
    assert subscribed(node) == FRONT_AND_REAR


def test_parameters_of_unlisted_cameras_are_reported_by_name(bench: Bench) -> None:
    node = bench.start(PerceptionNode, cameras=['front'], frnt__topic='/f', camera__topic='/c')
    status = bench.status(node, lambda s: s.level == b'\x01')
    assert 'frnt.topic' in status.message and 'camera.topic' not in status.message
    assert node.phase == 'active'


def test_an_empty_list_in_a_file_is_an_empty_list(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / 'own.yaml'
    file.write_text('/**/perception_node: {ros__parameters: {prompts: []}}')
    node = bench.start(PerceptionNode, files=[file])
    assert node.values()['prompts'] == []
    [info] = bench.collect(ModelInfo, 'model_info', LATCHED).wait(1)
    assert info.prompts == []


@pytest.mark.parametrize(
    ('name', 'message'),
    [('cameras', 'cameras is empty'), ('rate', 'it must not be a list: rate')],
)
def test_an_invalid_empty_list_is_reported_in_one_line(
    bench: Bench, tmp_path: Path, name: str, message: str
) -> None:
    file = tmp_path / 'own.yaml'
    file.write_text(f'/**/perception_node: {{ros__parameters: {{{name}: []}}}}')
    node = bench.start(PerceptionNode, up=False, files=[file])
    assert not bench.do(node, node.bring_up)
    status = bench.status(node, lambda s: s.level == b'\x02')
    assert message in status.message


def test_a_misspelled_parameter_is_a_warning_that_names_it(bench: Bench) -> None:
    node = bench.start(
        ChangeDetectionNode,
        use_sim_time=False,
        promts=['a'],
        model='small',
        camera__topic='/x',
        **{'qos_overrides__/a__subscription__depth': 3},
    )
    status = bench.status(node, lambda s: s.level == b'\x01')
    assert 'promts' in status.message
    assert not any(name in status.message for name in ('model', 'camera', 'qos_overrides'))
    assert node.phase == 'active'
