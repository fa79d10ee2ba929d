# SPDX-License-Identifier: Apache-2.0
"""The 50 tasks, their objects, and the meaning ids of what happens in them.

A meaning id is `rest`, `dark`, `reach:<object>:<colour>`, `act:<task>:<colour>` or
`done:<task>:<colour>`. Tasks that share an object share its `reach`, as nothing tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

TEST_TASKS = ('bin-picking', 'box-close', 'door-lock', 'door-unlock', 'hand-insert')
COLOUR_NAMES = ('red', 'green', 'blue', 'yellow', 'orange', 'purple', 'white', 'black')


@dataclass(frozen=True)
class Task:
    """One Meta-World task: its object's noun, and the simulator's bodies that are the object."""

    name: str
    object: str
    bodies: tuple[str, ...]

    def meaning(self, phase: str, colour: str) -> str:
        """The meaning id of a phase of this task."""
        if phase in ('rest', 'dark'):
            return phase
        return f'{phase}:{self.object if phase == "reach" else self.name}:{colour}'


@cache
def tasks() -> dict[str, Task]:
    """All 50 tasks by name."""
    table = yaml.safe_load((Path(__file__).parent / 'tasks.yaml').read_text())
    return {
        name: Task(name, row['object'], tuple(row['bodies'])) for name, row in table.items()
    }


def train_tasks() -> tuple[str, ...]:
    """The 45 tasks that training may see, in the table's order."""
    return tuple(name for name in tasks() if name not in TEST_TASKS)
