# SPDX-License-Identifier: Apache-2.0
"""Import rules (docs/design.md section 6), checked in clean processes and in the source.

A layer imports only from layers below it. `data` is above `stream`, because imported recordings
pass through the same stamp filter and frame sampler as live frames.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vljepa_ros.cli import main

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'vljepa_ros'
LAYERS = (
    'cli',
    'client',
    'nodes',
    'train',
    'evaluate',
    'expectations',
    'report',
    'pipeline',
    'data',
    'query',
    'stream',
    'memory',
    'view',
    'runtime',
    'model',
    'sources',
    'core',
)
USE_ROS = ('nodes', 'client')
OFFLINE = (
    'cli',
    'train',
    'evaluate',
    'expectations',
    'report',
    'pipeline',
    'data',
)  # a running node needs none of them
# Modules outside data/simulators that import a simulator. This list must become shorter only.
USE_SIMULATORS = {
    'data.generation',
    'data.manifest',
    'data.unfamiliar.simulated_clips',
}
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


@functools.cache
def modules(*below: str) -> dict[str, Path]:
    """Return the modules of the given folders, or all outside nodes/ and client/."""
    found = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        first = Path(parts[1]).stem
        if first in USE_ROS if not below else first not in below:
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
    """Return every module that a file imports, including imports in functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return the modules of this package that each module imports, without `vljepa_ros.`."""
    paths = modules(*LAYERS)
    names = {name.partition('.')[2]: imported(path) for name, path in paths.items()}
    found = {}
    for name, uses in names.items():
        ours = {use.partition('.')[2] for use in uses if use.startswith('vljepa_ros.')}
        found[name] = {use for use in ours if use in names} - {name}
    return found


def assert_no_cycle(edges: dict[str, set[str]], name_of: Callable[[str], str]) -> None:
    """Merge modules by `name_of`; what remains has no cycle."""
    merged: dict[str, set[str]] = {}
    for name, uses in edges.items():
        own = name_of(name)
        merged.setdefault(own, set()).update({name_of(use) for use in uses} - {own})
    graphlib.TopologicalSorter(merged).prepare()  # raises CycleError that names the cycle


def below(name: str, package: str) -> bool:
    """Whether a module is a package's own or the package itself."""
    return name == package or name.startswith(package + '.')


def test_every_module_belongs_to_a_layer() -> None:
    here = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert here - {'__init__', '__pycache__'} == set(LAYERS)


@pytest.mark.parametrize('layer', LAYERS)
def test_a_layer_imports_only_from_layers_below_it(layer: str) -> None:
    allowed = LAYERS[LAYERS.index(layer) :]
    edges = graph()
    assert len(edges) > 100
    wrong = {
        f'{name} imports {use}'
        for name, uses in edges.items()
        for use in uses
        if name.partition('.')[0] == layer and use.partition('.')[0] not in allowed
    }
    assert not wrong


def test_modules_import_each_other_without_cycles() -> None:
    edges = graph()
    packages = {
        name for name in edges if any(below(other, name) for other in edges if other != name)
    }
    # A package's own `__init__` runs before its modules, which is no cycle: it is left out.
    assert_no_cycle({name: uses - packages for name, uses in edges.items()}, str)


def test_the_parts_of_a_package_import_each_other_without_cycles() -> None:
    edges = graph()
    folders = {name.rpartition('.')[0] for name in edges} - {''}
    assert {'data', 'model', 'train', 'train.fine_tuning'} <= folders
    for folder in sorted(folders):
        depth = folder.count('.') + 2
        inside = {
            name: {use for use in uses if below(use, folder) and use != folder}
            for name, uses in edges.items()
            if below(name, folder) and name != folder
        }
        assert_no_cycle(inside, lambda name, depth=depth: '.'.join(name.split('.')[:depth]))


def test_commands_and_suites_share_code_through_other_modules() -> None:
    edges = graph()
    commands = {f'cli.{name}' for name in main.COMMANDS}
    suites = {
        f'evaluate.suites.{path.stem}'
        for path in (PACKAGE / 'evaluate/suites').glob('*.py')
        if path.stem != '__init__'
    }
    assert len(commands) > 8 and len(suites) > 8
    for leaves in (commands, suites):
        assert {name: edges[name] & leaves for name in leaves if edges[name] & leaves} == {}


def test_simulators_are_imported_by_listed_modules_only() -> None:
    edges = graph()
    found = {
        name
        for name, uses in edges.items()
        if not below(name, 'data.simulators') and any(below(u, 'data.simulators') for u in uses)
    }
    assert found == USE_SIMULATORS


def test_only_nodes_and_client_import_ros() -> None:
    assert len(modules()) > 100
    import_all(modules(), (*ROS, *(f'vljepa_ros.{name}' for name in USE_ROS)))


@pytest.mark.parametrize('name', sorted(modules()))
def test_functions_do_not_import_ros(name: str) -> None:
    assert imported(modules()[name]).isdisjoint(ROS)


def test_core_stream_memory_and_query_do_not_import_torch() -> None:
    names = modules('core', 'stream', 'memory', 'query', 'sources')
    import_all(names, ('torch', 'transformers', 'vljepa_ros.model'))


@pytest.mark.parametrize('name', sorted(modules(*USE_ROS)))
def test_nodes_and_client_do_not_import_offline_modules(name: str) -> None:
    uses = {use.partition('.')[2] for use in imported(modules(*USE_ROS)[name])}
    assert not {use for use in uses if use.partition('.')[0] in OFFLINE}


# Class names that several modules share: the same concept in two families.
FAMILIES = {
    # the parts of VL-JEPA, streaming and bidirectional (model/)
    'Predictor',
    'PredictorConfig',
    'XEncoder',
    'XEncoderConfig',
    'YEncoder',
    'YEncoderConfig',
    # the generator of a simulator's streams: data/simulators/mwstream and kitchen
    'Director',
}


def test_a_class_name_has_one_meaning() -> None:
    found: dict[str, set[str]] = {}
    for module, path in modules(*LAYERS).items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):  # `_Source` beside `Source` is a duplicate, too
                found.setdefault(node.name.lstrip('_'), set()).add(module)
    shared = {name: sorted(where) for name, where in found.items() if len(where) > 1}
    assert len(found) > 250
    assert not {name: where for name, where in shared.items() if name not in FAMILIES}
    assert set(shared) == FAMILIES  # a family name that is no longer shared leaves the list
