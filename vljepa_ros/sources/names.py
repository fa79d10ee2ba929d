# SPDX-License-Identifier: Apache-2.0
"""Names of cameras, derived from their topics: /front/image_raw/compressed is `front`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from vljepa_ros.core.errors import InputError

# What image_transport and drivers put behind a camera's name.
SUFFIXES = re.compile(r'compressed|(image|color|rgb|raw|rect|mono)(_(raw|rect|color|mono))*')


def camera_name(topic: str) -> str:
    """The last part of a topic that says which camera it is; `camera` where none does."""
    parts = [part for part in topic.split('/') if part]
    while parts and SUFFIXES.fullmatch(parts[-1]):
        parts.pop()
    return _identifier(parts[-1]) if parts else 'camera'


def camera_names(topics: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Topic -> name, all different. Raises InputError if `given` names one badly or twice."""
    given = given or {}
    names = {topic: given.get(topic) or camera_name(topic) for topic in topics}
    for topic, name in given.items():
        if not name.isidentifier():
            raise InputError(f"camera name '{name}' of {topic} is not of letters, digits and _")
    counts = Counter(names.values())
    for topic, name in names.items():
        if counts[name] > 1 and topic not in given:
            names[topic] = _identifier('_'.join(part for part in topic.split('/') if part))
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise InputError(f"two topics would be called '{twice[0]}': name them NAME=TOPIC")
    return names


def _identifier(text: str) -> str:
    found = re.sub(r'\W', '_', text)
    return found if found.isidentifier() else f'camera_{found}'
