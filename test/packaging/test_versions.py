# SPDX-License-Identifier: Apache-2.0
"""Facts that are stated in several files agree."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import vljepa_ros

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    """Return the version specifiers of a requirements file by package."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    pattern = re.compile(r'([\w.-]+)(?:\[\w+\])?(.*)')
    found = (pattern.match(line.partition('#')[0].strip()) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_package_xml_setup_and_module_have_one_version() -> None:
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    setup = re.search(r"version='([^']+)'", (ROOT / 'setup.py').read_text())
    assert setup is not None
    assert package.findtext('version') == setup[1] == vljepa_ros.__version__


def test_package_xml_and_cmake_have_one_name() -> None:
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    cmake = re.search(r'project\((\w+)\)', (ROOT / 'CMakeLists.txt').read_text())
    assert cmake is not None
    assert package.findtext('name') == cmake[1] == 'vljepa_ros'
    assert package.get('format') == '3'


def test_a_robot_gets_the_versions_that_are_tested() -> None:
    core, robot = pins('core.txt'), pins('robot.txt')
    robot.pop('numpy')  # the distribution's, only bounded
    assert robot == {name: core[name] for name in robot}
    from_apt = {'numpy', 'opencv-python-headless', 'pyyaml'}
    for_recordings = {'av'}  # video files; cameras and bags need no PyAV
    assert set(core) == set(robot) | from_apt | for_recordings


def test_every_ros_package_is_pinned() -> None:
    for distro in ('jazzy', 'kilted'):
        ros = pins(f'ros-{distro}.txt')
        assert len(ros) > 80
        assert all(re.fullmatch(r'==[\d.]+', pin) for pin in ros.values())
