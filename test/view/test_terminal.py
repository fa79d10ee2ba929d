# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from rich.console import Console, Group
from rich.text import Text

from vljepa_ros.core.types import Event, State, StreamKey
from vljepa_ros.view.stack_state import StackState
from vljepa_ros.view.terminal import lines


def screen(found: list[Text], width: int = 80, color: bool = False) -> str:
    """Render lines as a terminal of a width shows them."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=color, highlight=False, markup=False)
    console.print(Group(*found))
    return file.getvalue()


def busy_state(text: str = 'the drawer is open') -> StackState:
    """Return a state with many streams, watches, nodes and events."""
    state = StackState()
    for number in range(9):
        key = StreamKey(f'camera{number}', 'What happens?', 'm')
        state.on_embedding(key.source, key.prompt, 0.12, 0.0, 1.0)
        state.on_watch(f'{number:08x}', 0.5, 1.0)
        state.on_diagnostics(f'/vljepa/node{number}', 1, text, {}, 1.0)
        for stamp_ns in range(10):
            state.on_event(Event(stamp_ns, key, 's', stamp_ns, 0, 0, State.STARTED, text, 0.75))
    return state


@pytest.mark.parametrize('height', [24, 40])
def test_a_busy_stack_fits_the_terminal(height: int) -> None:
    found = lines(
        busy_state('a long text ' * 20), '/vljepa', 1.0, ['a? yes (0.9)'] * 9, 'Is the', height
    )
    assert len(found) == height
    shown = screen(found).splitlines()
    assert len(shown) == height and max(map(len, shown)) <= 80
    assert shown[-1] == '> Is the'


def test_a_low_terminal_still_has_the_prompt_line() -> None:
    found = lines(busy_state(), '/vljepa', 1.0, [], 'Is', 6)
    assert len(found) == 6 and found[-1].plain == '> Is'


def test_a_missing_stack_is_reported() -> None:
    shown = screen(lines(StackState(), '/robot/vljepa', 1.0))
    assert "no stack in the namespace '/robot/vljepa' yet" in shown


def test_texts_are_not_markup_or_escape_sequences() -> None:
    shown = screen(lines(busy_state('[red]x[/red] \x1b[2J\x07 <b>'), '/v', 1.0), color=True)
    assert '[red]x[/red]' in shown and '<b>' in shown
    assert '\x1b[2J' not in shown and '\x07' not in shown


def test_bidirectional_controls_are_removed_and_letters_kept() -> None:
    shown = screen(lines(busy_state('שלום \u202eevil'), '/v', 1.0))
    assert 'שלום evil' in shown and '\u202e' not in shown


def test_no_color_prints_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines(busy_state(), '/v', 1.0)
    assert '\x1b[33m' in screen(found, color=True)  # WARN is yellow
    monkeypatch.setenv('NO_COLOR', '1')
    assert '\x1b[33m' not in screen(found, color=True)
