# SPDX-License-Identifier: Apache-2.0
"""Terminal view of a running stack: a fixed number of lines, each cut to the width."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from vljepa_ros.core.text import plain_line
from vljepa_ros.core.types import Event, State
from vljepa_ros.view.stack_state import NO_STATUS, StackState

STYLES = ('green', 'yellow', 'red', 'dim')  # by diagnostic level
LEVELS = ('OK', 'WARN', 'ERROR', 'STALE')
MOST_STREAMS, MOST_WATCHES, MOST_ANSWERS = 5, 3, 3
SYSTEM_TIME_NS = 10**17  # larger stamps are times of the system clock, not of a simulation
HINT = 'Type a question, press Enter; candidates follow after |. Ctrl-C: quit'


def lines(
    state: StackState,
    namespace: str,
    now_s: float,
    answers: Sequence[str] = (),
    typed: str | None = None,
    height: int = 24,
) -> list[Text]:
    """Return the view as exactly `height` lines.

    Args:
        state: State of the stack.
        namespace: Namespace of the stack, for the heading.
        now_s: Current time of the monotonic clock of `state`.
        answers: Answers to questions, oldest first.
        typed: Text of the prompt line; None if there is no prompt line.
        height: Number of lines of the terminal.
    """
    top = [_heading(state, namespace)]
    if not state.nodes and not state.streams:
        top.append(Text(f"no stack in the namespace '{plain_line(namespace)}' yet", 'yellow'))
    top += _nodes(state) + _streams(state, now_s) + _watches(state)
    bottom = [Text(f'  {plain_line(text)}', 'cyan') for text in answers[-MOST_ANSWERS:]]
    if typed is not None:
        bottom += [Text(HINT, 'dim'), Text(f'> {plain_line(typed)}')]
    room = height - len(top) - len(bottom) - 1
    events = list(state.events)[-room:] if room > 0 else []
    middle = [Text('events', 'bold'), *(_event(event) for event in events)] if room > 0 else []
    middle += [Text('')] * (height - len(top) - len(middle) - len(bottom))
    return _cut([*top, *middle, *bottom], height, keep_last=len(bottom))


def _cut(found: list[Text], height: int, keep_last: int) -> list[Text]:
    """Remove lines before the last ones if a terminal is too low for all of them."""
    if len(found) > height:
        first = max(0, height - keep_last)
        found = [*found[:first], *found[len(found) - (height - first) :]]
    for line in found:
        line.no_wrap, line.overflow = True, 'ellipsis'
    return found


def _heading(state: StackState, namespace: str) -> Text:
    found = Text(f'vljepa top  {plain_line(namespace)}', 'bold')
    found.append(f'  {len(state.nodes)} nodes, {state.dropped_frames} frames dropped', 'default')
    return found


def _nodes(state: StackState) -> list[Text]:
    """Return one line per node that is not OK."""
    return [
        Text(
            f'{LEVELS[min(node.level, NO_STATUS)]}: {plain_line(name)}: {node.message}',
            STYLES[min(node.level, NO_STATUS)],
        )
        for name, node in sorted(state.nodes.items())
        if node.level
    ][:4]


def _streams(state: StackState, now_s: float) -> list[Text]:
    found = [Text('camera       rate Hz  latency  conf.  text', 'bold')]
    for s in list(state.streams.values())[:MOST_STREAMS]:
        text = '(withheld)' if s.withheld else s.text
        prompt = f'{s.prompt} ' if s.prompt and len(state.streams) > 1 else ''
        found.append(
            Text(
                f'{s.source:12.12} {s.rate_hz(now_s):7.1f} {s.latency_s * 1000:5.0f} ms '
                f'{s.confidence:6.2f}  {prompt}{text}'
            )
        )
    hidden = len(state.streams) - MOST_STREAMS
    return [*found, Text(f'and {hidden} more', 'dim')] if hidden > 0 else found


def _watches(state: StackState) -> list[Text]:
    """Return a heading and one line per watch, or nothing."""
    rows = [
        Text(f'{watch.score:5.2f}  {watch.condition or goal}')
        for goal, watch in list(state.watches.items())[:MOST_WATCHES]
    ]
    return [Text('watches', 'bold'), *rows] if rows else []


def _event(event: Event) -> Text:
    stamp_s = event.stamp_ns / 1e9
    time = f'{stamp_s:10.2f} s'
    if event.stamp_ns > SYSTEM_TIME_NS:
        time = datetime.fromtimestamp(stamp_s).strftime('%H:%M:%S')
    text = plain_line(event.text) or '(withheld)'
    state = event.state.name.lower()
    style = 'dim' if event.state is State.ENDED else 'default'
    return Text(f'{time}  {plain_line(event.key.source)}  {state:7}  {text}', style)
