# SPDX-License-Identifier: Apache-2.0
"""Conversion of launch arguments to node parameters. Does not import launch or rclpy."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import TRANSPORTS

# If several keys of parameter files match a node, rcl applies them in the order of their first
# occurrence, not by specificity, and the last one wins. This key matches every node and is used
# nowhere else.
EVERY_NODE = '/**/*'
VIEWS = ('none', 'node', 'foxglove', 'rviz')


def overrides(arguments: Mapping[str, str], caller_namespace: str = '') -> dict[str, Any]:
    """Return the node parameters that launch arguments set, by name.

    An empty argument does not override the parameter file.

    Args:
        arguments: Values of the launch arguments by name.
        caller_namespace: Namespace of the including launch file, in which topics are resolved.

    Raises:
        InputError: An argument is invalid, or `image` and `cameras` are both set.
    """
    found: dict[str, Any] = {}
    for name in ('model', 'device'):
        if arguments.get(name):
            found[name] = arguments[name]
    if arguments.get('threads'):
        found['threads'] = count('threads', arguments['threads'])
    for name in ('autostart', 'use_sim_time'):
        if arguments.get(name):
            found[name] = boolean(name, arguments[name])
    if arguments.get('image') and arguments.get('cameras'):
        raise InputError(
            'image and cameras are both set: use image for one camera, cameras for several'
        )
    cameras = parse_cameras(arguments.get('cameras', ''))
    if arguments.get('image'):
        cameras = {'camera': arguments['image']}
    if cameras:
        found['cameras'] = list(cameras)
    transport = arguments.get('image_transport', '')
    if transport not in ('', *TRANSPORTS):
        known = ', '.join(TRANSPORTS)
        raise InputError(f"image_transport '{transport}' is unknown (known: {known})")
    if transport:
        found['image_transport'] = transport
    for name, topic in cameras.items():
        found[f'{name}.topic'] = resolve(topic, caller_namespace)
    return found


def parse_cameras(text: str) -> dict[str, str]:
    """Parse a text such as 'front:=/f/image_raw,rear:=/r/image_raw' to topics by camera name.

    Raises:
        InputError: The text has another form, or a camera name is repeated.
    """
    cameras: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(','))):
        name, found, topic = item.partition(':=')
        if not found or not name.isidentifier() or not topic:
            raise InputError(f"cameras: '{item}' is not of the form NAME:=TOPIC")
        if name in cameras:
            raise InputError(f"cameras: '{name}' is listed twice")
        cameras[name] = topic
    return cameras


def resolve(topic: str, namespace: str) -> str:
    """Return the absolute name of a topic; a relative name is resolved in `namespace`."""
    if topic.startswith('/'):
        return topic
    return '/' + '/'.join(part for part in (namespace.strip('/'), topic) if part)


def count(name: str, text: str) -> int:
    """Parse a launch argument as a non-negative integer. Raises InputError if it is invalid."""
    if not text.strip().isdecimal():
        raise InputError(f"{name} '{text}' is not an integer of 0 or more")
    return int(text)


def boolean(name: str, text: str) -> bool:
    """Parse a launch argument as a case-insensitive boolean. Raises InputError if it is none."""
    if text.lower() not in ('true', 'false'):
        raise InputError(f"{name} '{text}' is neither true nor false")
    return text.lower() == 'true'


def check_view(name: str) -> None:
    """Raise InputError if a value of the launch argument `view` is unknown."""
    if name not in VIEWS:
        raise InputError(f"view '{name}' is unknown (known: {', '.join(VIEWS)})")


def view_remappings(file: Path, namespace: str) -> list[tuple[str, str]]:
    """Return remappings of the stack's topics in an RViz configuration to another namespace.

    Args:
        file: Configuration with topics in the namespace `/vljepa`.
        namespace: Namespace of the stack.
    """
    topics = sorted(set(re.findall(r'/vljepa(/[\w/]+)', file.read_text())))
    space = f'/{namespace.strip("/")}' if namespace.strip('/') else ''
    return [(f'/vljepa{topic}', f'{space}{topic}') for topic in topics if space != '/vljepa']


def override_file(values: Mapping[str, Any]) -> Path:
    """Write a temporary parameter file that overrides earlier files; return its path."""
    with tempfile.NamedTemporaryFile(
        'w', prefix='vljepa_ros_', suffix='.yaml', delete=False
    ) as file:
        yaml.safe_dump({EVERY_NODE: {'ros__parameters': dict(values)}}, file)
    return Path(file.name)
