# SPDX-License-Identifier: Apache-2.0
"""The type stubs for mypy match the built messages."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest
from helpers.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')
pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def stubs() -> ModuleType:
    return load_script('tools/message_stubs.py')


@pytest.mark.parametrize(
    ('field', 'read', 'written'),
    [
        ('boolean', 'bool', 'bool'),
        ('uint8', 'int', 'int'),
        ('double', 'float', 'float'),
        ('octet', 'bytes', 'bytes'),
        ('string<10>', 'str', 'str'),
        ('std_msgs/Header', 'std_msgs.msg.Header', 'std_msgs.msg.Header'),
        ('sequence<float>', 'array[float]', 'Sequence[float] | NDArray[Any]'),
        ('sequence<uint8, 16>', 'array[int]', 'Sequence[int] | NDArray[Any]'),
        ('double[9]', 'NDArray[Any]', 'Sequence[float] | NDArray[Any]'),
        ('sequence<string>', 'list[str]', 'Sequence[str]'),
        ('a_msgs/B[2]', 'list[a_msgs.msg.B]', 'Sequence[a_msgs.msg.B]'),
    ],
)
def test_fields_have_the_python_types_of_rosidl(
    stubs: ModuleType, field: str, read: str, written: str
) -> None:
    assert stubs.types(field) == (read, written)


def test_every_interface_and_nested_interface_has_a_stub(
    stubs: ModuleType, tmp_path: Path
) -> None:
    stubs.write(tmp_path / 'stubs', stubs.imported(ROOT / 'vljepa_ros'))
    for kind in ('msg', 'srv', 'action'):
        path = tmp_path / 'stubs' / 'vljepa_ros' / f'{kind}.pyi'
        classes = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)}
        assert classes == {file.stem for file in (ROOT / kind).glob(f'*.{kind}')}
    header = ast.parse((tmp_path / 'stubs' / 'std_msgs' / 'msg.pyi').read_text())
    [found] = [n for n in header.body if isinstance(n, ast.ClassDef) and n.name == 'Header']
    fields = {
        n.target.id: ast.unparse(n.annotation)
        for n in found.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert fields == {'stamp': 'builtin_interfaces.msg.Time', 'frame_id': 'str'}
