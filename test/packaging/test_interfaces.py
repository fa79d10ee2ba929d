# SPDX-License-Identifier: Apache-2.0
"""The interface files: a comment at every field, constants equal to the core's enums."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from vljepa_ros.stream.types import Basis, Reason, State

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ('msg', 'srv', 'action') for path in (ROOT / folder).iterdir())


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_field_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# '), 'the first line says what it is for'
    fields = [line for line in lines if line and line != '---' and not line.startswith('#')]
    assert fields
    assert [line for line in fields if not re.search(r'\S +# \S', line)] == []
    assert [line for line in lines if len(line) > 110] == []


@pytest.mark.parametrize(
    'name, prefix, enum',
    [
        ('msg/SemanticChange.msg', 'REASON_', Reason),
        ('msg/TextEvent.msg', 'STATE_', State),
        ('srv/Query.srv', 'BASIS_', Basis),
    ],
)
def test_constants_are_those_of_the_core(name: str, prefix: str, enum: type[IntEnum]) -> None:
    found = re.findall(rf'^uint8 {prefix}(\w+)=(\d+)', (ROOT / name).read_text(), re.MULTILINE)
    assert {key: int(value) for key, value in found} == {item.name: int(item) for item in enum}


def test_the_interfaces_of_the_contract_are_there() -> None:
    assert [path.name for path in FILES] == sorted(
        [
            'Candidate.msg',
            'Embedding.msg',
            'Look.msg',
            'ModelInfo.msg',
            'Moment.msg',
            'SemanticChange.msg',
            'SemanticEmbedding.msg',
            'TextEvent.msg',
            'Predict.srv',
            'Query.srv',
            'Search.srv',
            'Watch.action',
        ],
        key=[path.name for path in FILES].index,
    )
