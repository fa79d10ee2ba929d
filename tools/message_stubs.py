# SPDX-License-Identifier: Apache-2.0
"""Write type stubs of the ROS messages, services and actions that the package imports.

rosidl generates Python classes without annotations; mypy needs them to check `vljepa_ros/nodes/`.
The stubs are made from the built classes (`get_fields_and_field_types`), for every interface that
the source files import and for the messages that these contain. Usage:

    .venv/bin/python tools/message_stubs.py FOLDER

The contents of FOLDER are replaced; pyproject.toml names it as mypy's search path.
"""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / 'vljepa_ros'
KINDS = ('msg', 'srv', 'action')
PARTS = ('Request', 'Response', 'Goal', 'Result', 'Feedback')
SCALARS = {'boolean': 'bool', 'octet': 'bytes', 'float': 'float', 'double': 'float'}
HEADER = """from array import array
from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

"""


def imported(folder: Path) -> set[tuple[str, str]]:
    """Return the interface modules that the files of a folder import, as (package, kind)."""
    found: set[tuple[str, str]] = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                package, _, kind = name.partition('.')
                if kind in KINDS:
                    found.add((package, kind))
    return found


def types(field: str) -> tuple[str, str]:
    """Return a field's type on reading, and the types that can be assigned to it."""
    array = re.fullmatch(r'(.+)\[(\d+)\]', field)
    sequence = re.fullmatch(r'sequence<(.+?)(?:, \d+)?>', field)
    if not array and not sequence:
        return scalar(field), scalar(field)
    inner = (array or sequence).group(1)  # type: ignore[union-attr]
    element = scalar(inner)
    if element not in ('int', 'float'):
        return f'list[{element}]', f'Sequence[{element}]'
    read = 'NDArray[Any]' if array else f'array[{element}]'
    return read, f'Sequence[{element}] | NDArray[Any]'


def scalar(field: str) -> str:
    """Return the Python type of a field that is not an array."""
    if '/' in field:
        return '{}.msg.{}'.format(*field.split('/'))
    if re.fullmatch(r'w?string(<\d+>)?', field):
        return 'str'
    return SCALARS.get(field, 'int')


def class_lines(name: str, cls: Any) -> Iterator[str]:
    """Yield the lines of the stub of one message class."""
    yield f'class {name}:'
    constants = [n for n, v in vars(type(cls)).items() if isinstance(v, property)]
    for constant in constants:
        if not constant.endswith('__DEFAULT'):
            yield f'    {constant}: ClassVar[{type(getattr(cls, constant)).__name__}]'
    fields = {n: types(t) for n, t in cls.get_fields_and_field_types().items()}
    for field, (read, written) in fields.items():
        if read == written:
            yield f'    {field}: {read}'
            continue
        yield from ('    @property', f'    def {field}(self) -> {read}: ...')
        yield f'    @{field}.setter'
        yield f'    def {field}(self, value: {written}) -> None: ...'
    arguments = ''.join(f', {n}: {written} = ...' for n, (_, written) in fields.items())
    yield f'    def __init__(self{", *" if arguments else ""}{arguments}) -> None: ...'
    yield '    @classmethod'
    yield '    def get_fields_and_field_types(cls) -> dict[str, str]: ...'


def interface_lines(name: str, cls: Any) -> Iterator[str]:
    """Yield the lines of the stub of a message, or of a service or action with its messages."""
    if hasattr(cls, 'get_fields_and_field_types'):
        yield from class_lines(name, cls)
        return
    yield f'class {name}:'
    for part in PARTS:
        if hasattr(cls, part):
            yield from (f'    {line}' for line in class_lines(part, getattr(cls, part)))
    if hasattr(cls, 'Impl'):
        yield '    Impl: Any'


def is_interface(name: str, value: Any) -> bool:
    """Return whether a module's attribute is an interface; names of its parts contain `_`."""
    if not isinstance(value, type) or '_' in name:
        return False
    return any(hasattr(value, n) for n in ('get_fields_and_field_types', 'Request', 'Goal'))


def used_packages(cls: Any) -> set[str]:
    """Return the packages of the messages that an interface contains."""
    parts = [cls] if hasattr(cls, 'get_fields_and_field_types') else []
    parts += [getattr(cls, part) for part in PARTS if hasattr(cls, part)]
    fields = ' '.join(t for p in parts for t in p.get_fields_and_field_types().values())
    return set(re.findall(r'(\w+)/\w+', fields))


def write(folder: Path, wanted: set[tuple[str, str]]) -> list[Path]:
    """Write the stubs of interface modules and of the messages that they contain.

    Args:
        folder: Folder to write; its contents are replaced.
        wanted: Interface modules, as (package, kind).

    Returns:
        The written files.
    """
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    todo = sorted(wanted)
    while todo:
        package, kind = todo.pop()
        if kind in modules.get(package, {}):
            continue
        module = importlib.import_module(f'{package}.{kind}')
        classes = {n: c for n, c in vars(module).items() if is_interface(n, c)}
        if not classes:  # rclpy.action
            continue
        needed: set[str] = set().union(*(used_packages(c) for c in classes.values()))
        body = '\n'.join(
            line for name, cls in sorted(classes.items()) for line in interface_lines(name, cls)
        )
        imports = ''.join(f'import {name}.msg\n' for name in sorted(needed))
        modules[package][kind] = f'{imports}{HEADER}{body}\n'
        todo += [(name, 'msg') for name in needed]
    shutil.rmtree(folder, ignore_errors=True)
    files: list[Path] = []
    for package, texts in modules.items():
        (folder / package).mkdir(parents=True)
        for kind, text in {'__init__': '', **texts}.items():
            files.append(folder / package / f'{kind}.pyi')
            files[-1].write_text(text)
    return files


if __name__ == '__main__':
    written = write(Path(sys.argv[1]), imported(SOURCE))
    if not written:
        raise SystemExit(f'error: {SOURCE} imports no interfaces')
