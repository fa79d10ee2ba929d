# SPDX-License-Identifier: Apache-2.0
"""The interface files: a comment at every field, constants equal to the core's enums."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from vljepa_ros.core.errors import ErrorCode
from vljepa_ros.core.types import AbstainReason, Basis, Reason, State

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ('msg', 'srv', 'action') for path in (ROOT / folder).iterdir())
SERVED = ('srv/Predict.srv', 'srv/Query.srv', 'srv/Search.srv', 'srv/Teach.srv')
CODED = (*SERVED, 'action/Watch.action')


def fields(section: str) -> list[str]:
    """Return types and names of the fields of a message, or of a part of a service or action."""
    return re.findall(r'^\w[\w/\[\]]* \w+(?= +#)', section, re.MULTILINE)


def parts(name: str) -> list[list[str]]:
    return [fields(part) for part in (ROOT / name).read_text().split('---\n')]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_field_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# '), 'the first line describes the interface'
    fields = [line for line in lines if line and line != '---' and not line.startswith('#')]
    assert fields
    assert [line for line in fields if not re.search(r'\S +# \S', line)] == []
    assert [line for line in lines if len(line) > 110] == []


@pytest.mark.parametrize(
    ('name', 'kind', 'prefix', 'enum'),
    [
        ('msg/SemanticChange.msg', 'uint8', 'REASON_', Reason),
        ('msg/TextEvent.msg', 'uint8', 'STATE_', State),
        ('srv/Query.srv', 'uint8', 'BASIS_', Basis),
        *(
            (name, 'uint8', 'ABSTAIN_', AbstainReason)
            for name in ('msg/TextEvent.msg', 'srv/Query.srv', 'action/Watch.action')
        ),
        *((name, 'uint16', '', ErrorCode) for name in CODED),
    ],
)
def test_constants_equal_the_core_enums(
    name: str, kind: str, prefix: str, enum: type[IntEnum]
) -> None:
    text = (ROOT / name).read_text()
    found = re.findall(rf'^{kind} {prefix}(\w+)=(\d+)', text, re.MULTILINE)
    assert {key: int(value) for key, value in found} == {item.name: int(item) for item in enum}


@pytest.mark.parametrize('name', CODED)
def test_every_message_field_follows_an_error_code(name: str) -> None:
    result = parts(name)[1]
    assert result[result.index('string message') - 1] == 'uint16 error_code'


def test_reserved_fields_exist() -> None:
    moment = fields((ROOT / 'msg/Moment.msg').read_text())
    assert moment[-6:] == [
        'bool has_pose',
        'geometry_msgs/PoseStamped pose',
        'bool has_point',
        'geometry_msgs/PointStamped point',
        'float64[9] point_covariance',
        'string[] also_seen_by',
    ]
    for name in ('srv/Query.srv', 'srv/Search.srv'):
        assert {'geometry_msgs/PointStamped near', 'float64 radius'} <= set(parts(name)[0])
    for name in ('srv/Search.srv', 'action/Watch.action'):
        assert {'Moment like', 'sensor_msgs/CompressedImage image'} <= set(parts(name)[0])


def test_all_interfaces_exist() -> None:
    assert {path.name for path in FILES} == {
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
        'Teach.srv',
        'Watch.action',
    }
