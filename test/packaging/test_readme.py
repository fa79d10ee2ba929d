# SPDX-License-Identifier: Apache-2.0
"""The README's tables name what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / 'README.md').read_text()


@pytest.mark.ros
def test_it_lists_every_parameter_with_its_default() -> None:
    from vljepa_ros.nodes import parameters

    specs = {spec.name: spec for specs in parameters.TABLE.values() for spec in specs}
    specs |= {f'<camera>.{spec.name}': spec for spec in parameters.CAMERA}
    rows = {line.split('`')[1]: line for line in README.splitlines() if line.startswith('| `')}
    for name, spec in specs.items():
        value = spec.default
        if isinstance(value, list):
            shown = "['" + "', '".join(value) + "']"
        elif isinstance(value, bool):
            shown = str(value).lower()
        else:
            shown = f'{value:g}' if isinstance(value, float) else str(value) or "''"
        assert name in rows and f'`{shown}`' in rows[name], f'{name}: {shown}'


def test_it_lists_every_command() -> None:
    from vljepa_ros.cli.main import COMMANDS

    assert [name for name in COMMANDS if f'vljepa {name}' not in README] == []
