# SPDX-License-Identifier: Apache-2.0
"""Derive camera names from image topics: /front/image_raw/compressed -> `front`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from vljepa_ros.core.errors import InputError

# Parts of topic names that image_transport and drivers append to the name of a camera.
SUFFIXES = re.compile(
    r'compressed|ffmpeg|foxglove|(image|color|rgb|raw|rect|mono)(_(raw|rect|color|mono))*'
)


def camera_name(topic: str) -> str:
    """Return the last part of a topic name that is specific to a camera, or else `camera`."""
    parts = [part for part in topic.split('/') if part]
    while parts and SUFFIXES.fullmatch(parts[-1]):
        parts.pop()
    return _identifier(parts[-1]) if parts else 'camera'


def camera_names(topics: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map topics to unique camera names.

    Args:
        topics: Image topics.
        given: Names chosen by the user, by topic; other names are derived from the topic.

    Raises:
        InputError: A chosen name is not an identifier, or two topics have the same camera name.
    """
    given = given or {}
    names = {topic: given.get(topic) or camera_name(topic) for topic in topics}
    for topic, name in given.items():
        if not name.isidentifier():
            raise InputError(
                f"camera name '{name}' of {topic} is invalid: use letters, digits and _, "
                'not starting with a digit'
            )
    counts = Counter(names.values())
    for topic, name in names.items():
        if counts[name] > 1 and topic not in given:
            names[topic] = _identifier('_'.join(part for part in topic.split('/') if part))
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise InputError(
            f"two topics have the camera name '{twice[0]}': name one of them with NAME=TOPIC"
        )
    return names


def _identifier(text: str) -> str:
    found = re.sub(r'\W', '_', text)
    return found if found.isidentifier() else f'camera_{found}'
