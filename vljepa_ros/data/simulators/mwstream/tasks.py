# SPDX-License-Identifier: Apache-2.0
"""The 50 tasks of Meta-World v3: their objects, states and colors, and the ids of concepts.

A concept id is `rest`, `dark`, `covered`, `reach:<object>:<colour>`,
`contact:<object>:<colour>`, `act:<task>:<colour>`, `done:<task>:<colour>`,
`appear:<thing>:<colour>` or `gone:<thing>:<colour>`. Tasks with the same object share its `reach`
and `contact` concepts, because these phases look the same.
The generator and the sentences use this module. No simulator is needed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskFacts:
    """Object of a task and its states.

    Attributes:
        object: Noun for the object that the robot manipulates.
        bodies: Names of the object's bodies in the simulator's model.
        before: State of the object at the start, '' if the state has no name.
        after: State of the object after success, '' if the state has no name.
        paint: Geoms to color, as 'mesh:<name>'; if empty, all geoms of `bodies`.
    """

    object: str
    bodies: tuple[str, ...]
    before: str = ''
    after: str = ''
    paint: tuple[str, ...] = ()


TASKS: dict[str, TaskFacts] = {
    'assembly': TaskFacts('ring', ('RoundNut',), 'off', 'on'),
    'basketball': TaskFacts('basketball', ('bsktball',), 'out', 'in'),
    'bin-picking': TaskFacts('block', ('obj',)),
    'box-close': TaskFacts('lid', ('boxbodytop',), 'open', 'closed'),
    'button-press': TaskFacts('button', ('button',), 'released', 'pressed'),
    'button-press-topdown': TaskFacts('button', ('button',), 'released', 'pressed'),
    'button-press-topdown-wall': TaskFacts('button', ('button',), 'released', 'pressed'),
    'button-press-wall': TaskFacts('button', ('button',), 'released', 'pressed'),
    'coffee-button': TaskFacts('coffee button', ('cmbutton',)),
    'coffee-pull': TaskFacts('mug', ('obj',)),
    'coffee-push': TaskFacts('mug', ('obj',)),
    'dial-turn': TaskFacts('dial', ('dial',), paint=('mesh:dial', 'mesh:dialhead')),
    'disassemble': TaskFacts('ring', ('RoundNut',), 'on', 'off'),
    'door-close': TaskFacts('door', ('door_link',), 'open', 'closed'),
    'door-lock': TaskFacts('lock', ('lock_link',), 'unlocked', 'locked'),
    'door-open': TaskFacts('door', ('door_link',), 'closed', 'open'),
    'door-unlock': TaskFacts('lock', ('lock_link',), 'locked', 'unlocked'),
    'hand-insert': TaskFacts('block', ('obj',)),
    'drawer-close': TaskFacts('drawer', ('drawer_link',), 'open', 'closed'),
    'drawer-open': TaskFacts('drawer', ('drawer_link',), 'closed', 'open'),
    'faucet-open': TaskFacts('faucet', ('faucet_link2',)),
    'faucet-close': TaskFacts('faucet', ('faucet_link2',)),
    'hammer': TaskFacts('hammer', ('hammer',)),
    'handle-press-side': TaskFacts('handle', ('handle_link',), 'up', 'down'),
    'handle-press': TaskFacts('handle', ('handle_link',), 'up', 'down'),
    'handle-pull-side': TaskFacts('handle', ('handle_link',), 'down', 'up'),
    'handle-pull': TaskFacts('handle', ('handle_link',), 'down', 'up'),
    'lever-pull': TaskFacts('lever', ('lever_link1',), 'down', 'up'),
    'pick-place-wall': TaskFacts('puck', ('obj',)),
    'pick-out-of-hole': TaskFacts('puck', ('obj',), 'in', 'out'),
    'pick-place': TaskFacts('puck', ('obj',)),
    'plate-slide': TaskFacts('plate', ('puck_channel',), 'out', 'in'),
    'plate-slide-side': TaskFacts('plate', ('puck_channel',), 'out', 'in'),
    'plate-slide-back': TaskFacts('plate', ('puck_channel',), 'in', 'out'),
    'plate-slide-back-side': TaskFacts('plate', ('puck_channel',), 'in', 'out'),
    'peg-insert-side': TaskFacts('peg', ('peg',), 'out', 'in'),
    'peg-unplug-side': TaskFacts('plug', ('plug1',), 'in', 'out'),
    'soccer': TaskFacts('soccer ball', ('soccer_ball',), 'out', 'in'),
    'stick-push': TaskFacts('stick', ('stick',)),
    'stick-pull': TaskFacts('stick', ('stick',)),
    'push': TaskFacts('puck', ('obj',)),
    'push-wall': TaskFacts('puck', ('obj',)),
    'push-back': TaskFacts('block', ('obj',)),
    'reach': TaskFacts('puck', ('obj',)),
    'reach-wall': TaskFacts('puck', ('obj',)),
    'shelf-place': TaskFacts('block', ('obj',), 'off', 'on'),
    'sweep-into': TaskFacts('block', ('obj',), 'out', 'in'),
    'sweep': TaskFacts('block', ('obj',)),
    'window-open': TaskFacts('window', ('windowb_a', 'windowb_b'), 'closed', 'open'),
    'window-close': TaskFacts('window', ('windowb_a', 'windowb_b'), 'open', 'closed'),
}

TEST_TASKS: tuple[str, ...] = (
    'bin-picking',
    'box-close',
    'door-lock',
    'door-unlock',
    'hand-insert',
)
TRAIN_TASKS: tuple[str, ...] = tuple(t for t in TASKS if t not in TEST_TASKS)

# Task -> task that undoes it, in the same scene and with its own policy.
UNDONE_BY: dict[str, str] = {
    'drawer-open': 'drawer-close',
    'drawer-close': 'drawer-open',
    'door-close': 'door-open',
    'window-close': 'window-open',
    'handle-press': 'handle-pull',
    'handle-pull': 'handle-press',
    'handle-pull-side': 'handle-press-side',
    'plate-slide-side': 'plate-slide-back-side',
}

# Distractors that may be on the table, appear and disappear.
THINGS: tuple[str, ...] = ('tin', 'egg', 'brick', 'globe')

COLORS: dict[str, tuple[float, float, float]] = {
    'red': (0.85, 0.08, 0.08),
    'green': (0.08, 0.62, 0.12),
    'blue': (0.10, 0.22, 0.85),
    'yellow': (0.95, 0.85, 0.08),
    'orange': (0.97, 0.48, 0.05),
    'purple': (0.52, 0.10, 0.66),
    'white': (0.96, 0.96, 0.96),
    'black': (0.05, 0.05, 0.05),
}
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)


# Phases of a task; UNSEEN: labels that replace them if the scene is invisible.
PHASES: tuple[str, ...] = ('rest', 'reach', 'contact', 'act', 'done')
UNSEEN: tuple[str, ...] = ('dark', 'covered')
BARE: tuple[str, ...] = ('rest', *UNSEEN)


def held_out_color(task: str) -> str:
    """Return the color that the object of `task` never has in training."""
    return COLOR_NAMES[(3 * list(TASKS).index(task) + 1) % len(COLOR_NAMES)]


def training_colors(task: str) -> tuple[str, ...]:
    """Return the colors that the object of `task` has in training."""
    return tuple(name for name in COLOR_NAMES if name != held_out_color(task))


def meaning_of(task: str, phase: str, color: str) -> str:
    """Return the concept id of a task's phase, for an object of color `color`."""
    if phase in BARE:
        return phase
    return f'{phase}:{TASKS[task].object if phase in ("reach", "contact") else task}:{color}'
