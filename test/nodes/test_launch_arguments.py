# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vljepa_ros.core.errors import InputError
from vljepa_ros.nodes.launch_arguments import (
    EVERY_NODE,
    check_view,
    override_file,
    overrides,
    resolve,
    view_remappings,
)


def test_empty_arguments_override_no_parameter() -> None:
    empty = dict.fromkeys(('model', 'device', 'image', 'cameras', 'image_transport'), '')
    assert overrides(empty) == {}


def test_image_configures_one_camera_in_the_callers_namespace() -> None:
    arguments = {'image': 'camera/image_raw', 'image_transport': 'compressed'}
    assert overrides(arguments, '/robot1') == {
        'cameras': ['camera'],
        'camera.topic': '/robot1/camera/image_raw',
        'image_transport': 'compressed',
    }


def test_cameras_are_parsed_into_names_and_topics() -> None:
    arguments = {'cameras': 'front:=/f/image_raw, rear:=r/image_raw'}
    assert overrides(arguments) == {
        'cameras': ['front', 'rear'],
        'front.topic': '/f/image_raw',
        'rear.topic': '/r/image_raw',
    }


def test_the_transport_applies_to_every_camera() -> None:
    assert overrides({'image_transport': 'raw'}) == {'image_transport': 'raw'}


def test_flags_and_names_become_parameters() -> None:
    arguments = {'autostart': 'False', 'use_sim_time': 'true', 'model': 'big', 'device': 'cpu'}
    arguments['threads'] = '2'
    assert overrides(arguments) == {
        'autostart': False,
        'use_sim_time': True,
        'model': 'big',
        'device': 'cpu',
        'threads': 2,
    }


@pytest.mark.parametrize('threads', ['-1', 'two', '1.5'])
def test_an_invalid_number_of_threads_is_reported(threads: str) -> None:
    with pytest.raises(InputError, match='threads'):
        overrides({'threads': threads})


@pytest.mark.parametrize(
    ('topic', 'namespace', 'full'),
    [
        ('/a/b', '/n', '/a/b'),
        ('a', '', '/a'),
        ('a/b', '/n/m/', '/n/m/a/b'),
        ('a', '/', '/a'),
    ],
)
def test_topics_are_resolved(topic: str, namespace: str, full: str) -> None:
    assert resolve(topic, namespace) == full


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'image': 'a', 'cameras': 'b:=c'}, 'image and cameras'),
        ({'image_transport': 'theora'}, "'theora' is unknown"),
        ({'cameras': 'front=/f'}, "'front=/f' is not of the form NAME:=TOPIC"),
        ({'cameras': '2nd:=/f'}, "'2nd:=/f' is not of the form NAME:=TOPIC"),
        ({'cameras': 'a:=/f,a:=/g'}, "'a' is listed twice"),
        ({'autostart': 'yes'}, "autostart 'yes'"),
    ],
)
def test_invalid_arguments_are_reported(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides(arguments)


def test_the_override_file_applies_to_every_node(tmp_path: Path) -> None:
    path = override_file({'cameras': ['front'], 'front.topic': '/f'})
    written = yaml.safe_load(path.read_text())
    path.unlink()
    assert written == {
        EVERY_NODE: {'ros__parameters': {'cameras': ['front'], 'front.topic': '/f'}}
    }


ROOT = Path(__file__).resolve().parents[2]


def panels(layout: object) -> list[str]:
    """Return the leaves of a Foxglove layout."""
    if isinstance(layout, str):
        return [layout]
    assert isinstance(layout, dict)
    return panels(layout['first']) + panels(layout['second'])


def test_the_foxglove_layout_places_each_panel_that_it_configures() -> None:
    found = json.loads((ROOT / 'config' / 'foxglove.json').read_text())
    assert sorted(panels(found['layout'])) == sorted(found['configById'])


VIEW_TOPICS = {
    '/vljepa/view/camera/overlay': 'rviz_default_plugins/Image',
    '/vljepa/view/markers': 'rviz_default_plugins/MarkerArray',
}


def test_the_rviz_configuration_shows_overlay_and_markers() -> None:
    found = yaml.safe_load((ROOT / 'config' / 'vljepa.rviz').read_text())
    displays = found['Visualization Manager']['Displays']
    assert {d['Topic']['Value']: d['Class'] for d in displays} == VIEW_TOPICS
    assert found['Panels'][1]['SyncSource'] == displays[0]['Name']


def test_the_topics_of_rviz_follow_the_namespace() -> None:
    file = ROOT / 'config' / 'vljepa.rviz'
    assert view_remappings(file, 'vljepa') == []
    assert dict(view_remappings(file, '/robot/a')) == {
        topic: topic.replace('/vljepa', '/robot/a') for topic in VIEW_TOPICS
    }
    assert dict(view_remappings(file, '')) == {
        topic: topic.replace('/vljepa', '') for topic in VIEW_TOPICS
    }


def test_an_unknown_view_is_reported() -> None:
    for name in ('none', 'node', 'foxglove', 'rviz'):
        check_view(name)
    with pytest.raises(InputError, match=r"view 'web' is unknown .*foxglove"):
        check_view('web')
