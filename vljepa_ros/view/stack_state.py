# SPDX-License-Identifier: Apache-2.0
"""State of a running stack, collected from its messages: streams, events, watches and nodes.

Times `now_s` are seconds of a monotonic clock, given by the caller. The texts of messages are
stored by `plain_line`, so that they can be drawn or printed as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vljepa_ros.core.text import plain_line
from vljepa_ros.core.types import Event, State

RATE_SPAN_S = 10.0  # rates are means over this time
SILENT_S = 5.0  # a node or watch without a message for this time is no longer shown
EVENTS_KEPT = 100
NO_STATUS = 3  # diagnostic level STALE: no message was received
LOSSES = ('frames lost before reception', 'dropped, too slow', 'rejected images')


@dataclass
class StreamStatus:
    """Newest values of one stream (camera and standing prompt).

    `text`: text of the open segment; empty if it is withheld. `score`: cosine distance of the
    newest change, 0..2. `latency_s`: from the arrival of the frame to its embedding.
    """

    source: str
    prompt: str
    text: str = ''
    confidence: float = 0.0
    withheld: bool = False
    score: float = 0.0
    unfamiliar: float = 0.0
    latency_s: float = 0.0
    arrivals_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def rate_hz(self, now_s: float) -> float:
        """Return the mean rate of embeddings over the last 10 s; 0 if fewer than 2 arrived."""
        recent = [time for time in self.arrivals_s if now_s - time <= RATE_SPAN_S]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return 0.0
        return (len(recent) - 1) / (recent[-1] - recent[0])


@dataclass
class WatchStatus:
    """Newest feedback of one Watch goal; `condition` is empty until diagnostics name it."""

    score: float = 0.0
    condition: str = ''
    heard_s: float = 0.0


@dataclass
class NodeStatus:
    """Newest diagnostics of one node; `level`: 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    level: int
    message: str
    values: dict[str, str]
    heard_s: float


class StackState:
    """State of the stack in one namespace."""

    def __init__(self) -> None:
        self.streams: dict[tuple[str, str], StreamStatus] = {}
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)  # texts as received
        self.watches: dict[str, WatchStatus] = {}
        self.nodes: dict[str, NodeStatus] = {}

    def stream(self, source: str, prompt: str) -> StreamStatus:
        """Return the status of a stream, which is created if it is new."""
        key = (source, prompt)
        if key not in self.streams:
            self.streams[key] = StreamStatus(plain_line(source), plain_line(prompt))
        return self.streams[key]

    def on_embedding(
        self, source: str, prompt: str, latency_s: float, unfamiliar: float, now_s: float
    ) -> None:
        """Record the arrival of an embedding."""
        stream = self.stream(source, prompt)
        stream.latency_s, stream.unfamiliar = latency_s, unfamiliar
        stream.arrivals_s.append(now_s)

    def on_change(self, source: str, prompt: str, score: float) -> None:
        """Record the score of a change."""
        self.stream(source, prompt).score = score

    def on_event(self, event: Event) -> None:
        """Record a text event; the text of an ended segment is no longer current."""
        self.events.append(event)
        stream = self.stream(event.key.source, event.key.prompt)
        is_open = event.state is not State.ENDED
        stream.text = plain_line(event.text) if is_open else ''
        stream.confidence = event.confidence if is_open else 0.0
        stream.withheld = is_open and not event.text

    def on_watch(self, goal: str, score: float, now_s: float) -> None:
        """Record feedback of a Watch goal."""
        watch = self.watches.setdefault(goal, WatchStatus())
        watch.score, watch.heard_s = score, now_s

    def on_diagnostics(
        self, name: str, level: int, message: str, values: Mapping[str, str], now_s: float
    ) -> None:
        """Record the diagnostics of a node, which also name the conditions of watches."""
        self.nodes[name] = NodeStatus(level, plain_line(message), dict(values), now_s)
        for key, value in values.items():
            if key.startswith('watch '):
                self.watches.setdefault(
                    key.partition(' ')[2], WatchStatus(heard_s=now_s)
                ).condition = plain_line(value)

    def forget_silent(self, now_s: float) -> None:
        """Remove watches without feedback for 5 s, and mark silent nodes as STALE."""
        for goal, watch in list(self.watches.items()):
            if now_s - watch.heard_s > SILENT_S:
                del self.watches[goal]
        for node in self.nodes.values():
            if now_s - node.heard_s > SILENT_S:
                node.level, node.message = NO_STATUS, 'no diagnostics'

    @property
    def dropped_frames(self) -> int:
        """Number of frames that did not reach the model, summed over all cameras."""
        return sum(
            int(value)
            for node in self.nodes.values()
            for key, value in node.values.items()
            if key.endswith(LOSSES) and value.isdecimal()
        )

    def summary(self, now_s: float) -> dict[str, Any]:
        """Return the state as a JSON object; times in seconds, texts in one plain line."""
        return {
            'streams': [
                {
                    'source': s.source,
                    'prompt': s.prompt,
                    'text': s.text,
                    'confidence': round(s.confidence, 4),
                    'withheld': s.withheld,
                    'change_score': round(s.score, 4),
                    'unfamiliar': round(s.unfamiliar, 4),
                    'latency': round(s.latency_s, 4),
                    'rate': round(s.rate_hz(now_s), 3),
                }
                for s in self.streams.values()
            ],
            'watches': [
                {'id': goal, 'condition': w.condition, 'score': round(w.score, 4)}
                for goal, w in self.watches.items()
            ],
            'nodes': [
                {'name': name, 'level': node.level, 'message': node.message}
                for name, node in sorted(self.nodes.items())
            ],
            'dropped_frames': self.dropped_frames,
            'events': len(self.events),
        }
