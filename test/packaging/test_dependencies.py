# SPDX-License-Identifier: Apache-2.0
"""package.xml lists the dependencies that the launch files need from rosdep."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]


def declared() -> set[str]:
    """Return the declared run-time dependencies."""
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {str(e.text) for tag in ('depend', 'exec_depend') for e in root.iter(tag)}


def test_every_ros_package_that_a_launch_file_imports_is_declared() -> None:
    imported: set[str] = set()
    for path in (ROOT / 'launch').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split('.')[0])
    assert {'launch', 'launch_ros', 'ament_index_python'} <= imported
    assert imported - sys.stdlib_module_names - {'vljepa_ros'} <= declared()


def test_dependencies_for_playing_the_sample_bag_are_declared() -> None:
    assert {'ros2bag', 'rosbag2_storage_mcap'} <= declared()
