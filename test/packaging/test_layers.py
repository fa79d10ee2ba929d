# SPDX-License-Identifier: Apache-2.0
"""Who may import whom (docs/design.md section 6): checked in clean processes and in the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'vljepa_ros'
OPTIONAL = ('metaworld', 'mujoco', 'gymnasium', 'rosbags', 'sklearn', 'scipy')
ROS = (
    'rclpy',
    'launch',
    'launch_ros',
    'ament_index_python',
    'builtin_interfaces',
    'std_msgs',
    'sensor_msgs',
    'diagnostic_msgs',
    'lifecycle_msgs',
    'rosgraph_msgs',
    'rcl_interfaces',
    'action_msgs',
    'rosidl_runtime_py',
    'vljepa_ros.msg',
    'vljepa_ros.srv',
    'vljepa_ros.action',
)
IMPORT_ALL = """
import importlib, sys
forbidden, optional, names = (tuple(text.split(',')) for text in sys.argv[1:])

def below(name, roots):
    return any(name == root or name.startswith(root + '.') for root in roots)

class Watch:
    def find_spec(self, name, path=None, target=None):
        if below(name, forbidden):
            raise AssertionError(f'{name} was imported')

sys.meta_path.insert(0, Watch())
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not below(error.name, optional):
            raise
print(len(names), 'modules')
"""


def modules(*below: str) -> dict[str, Path]:
    """The modules of the package outside nodes/, in the folders given or everywhere."""
    found = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[1] == 'nodes' or parts[-1] == '__main__' or (below and parts[1] not in below):
            continue
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def import_all(names: dict[str, Path], forbidden: tuple[str, ...]) -> None:
    """Import modules in a new process that must not reach the forbidden ones."""
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            IMPORT_ALL,
            ','.join(forbidden),
            ','.join(OPTIONAL),
            ','.join(names),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(len(names)), 'modules']


def imported(path: Path) -> set[str]:
    """Every module that a file imports, inside functions as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def test_only_nodes_import_ros() -> None:
    assert len(modules()) > 30
    import_all(modules(), (*ROS, 'vljepa_ros.nodes'))


@pytest.mark.parametrize('name', sorted(modules()))
def test_no_ros_import_hides_in_a_function(name: str) -> None:
    assert imported(modules()[name]).isdisjoint(ROS)


def test_stream_memory_and_query_do_without_torch() -> None:
    import_all(modules('stream', 'memory', 'query'), ('torch', 'transformers', 'vljepa_ros.model'))


def test_the_nodes_do_not_use_the_offline_driver() -> None:
    for path in (PACKAGE / 'nodes').glob('*.py'):
        assert not any('stream.pipeline' in name for name in imported(path)), path.name
