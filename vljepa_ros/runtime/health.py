# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of a node, independent of ROS: counters, rate, latency and recent problems.

Times are seconds of the steady clock. Any thread may report; the node reads the values every
second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

LOG_EVERY_S = 5.0  # minimum time between log lines of one kind of problem; all are counted
SHOWN_S = 5.0  # time for which a problem stays in the diagnostics summary


class Level(IntEnum):
    """Diagnostic level; values equal the levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass
class _Problem:
    level: Level
    text: str
    seen_s: float
    logged_s: float
    unlogged: int = 0


class Health:
    """Counters, persistent conditions and recent problems of one node. Thread-safe."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._conditions: dict[str, tuple[Level, str]] = {}
        self._problems: dict[str, _Problem] = {}
        self._last_error = ''
        self._hops: list[float] = []
        self._tick_s = now_s()

    def count(self, name: str, by: int = 1) -> None:
        """Add `by` to the counter `name`, which is shown in the diagnostics."""
        with self._lock:
            self.counts[name] += by

    def output(self, latency_s: float) -> None:
        """Record one output and its latency, for the rate and latency in the diagnostics."""
        with self._lock:
            self._hops.append(latency_s)

    def report_problem(self, kind: str, text: str, level: Level = Level.WARN) -> str:
        """Count a problem, show it in the diagnostics, and return a line to log.

        Args:
            kind: Name of the problem's counter; log lines are throttled per counter.
            text: One line that describes the problem.
            level: Level in the diagnostics.

        Returns:
            The line to log; '' if a problem of this kind was logged less than `LOG_EVERY_S` ago.
        """
        now = self._now_s()
        with self._lock:
            self.counts[kind] += 1
            self._last_error = text
            known = self._problems.get(kind)
            if known is not None and now - known.logged_s < LOG_EVERY_S:
                known.level, known.text, known.seen_s = level, text, now
                known.unlogged += 1
                return ''
            more = f' ({known.unlogged} similar lines omitted)' if known and known.unlogged else ''
            self._problems[kind] = _Problem(level, text, now, now)
            return text + more

    def condition(self, name: str, text: str, level: Level = Level.WARN) -> bool:
        """Set or clear a condition, which the diagnostics show until it is cleared.

        Args:
            name: Identifier of the condition.
            text: One line that describes the condition; '' to clear it.
            level: Level in the diagnostics.

        Returns:
            Whether the text of the condition changed.
        """
        with self._lock:
            before = self._conditions.pop(name, None)
            if text:
                self._conditions[name] = (level, text)
            return (before or (Level.OK, ''))[1] != text

    def summary(self, fine: str) -> tuple[Level, str]:
        """Return the highest current level and its texts; (OK, `fine`) if there is no problem."""
        now = self._now_s()
        with self._lock:
            current = list(self._conditions.values())
            current += [
                (p.level, p.text) for p in self._problems.values() if now - p.seen_s < SHOWN_S
            ]
        if not current:
            return Level.OK, fine
        highest = max(level for level, _ in current)
        return highest, '; '.join(text for level, text in current if level == highest)

    def values(self) -> dict[str, str]:
        """Return counters, and rate and latency since the previous call, as texts by name."""
        now = self._now_s()
        with self._lock:
            seconds, self._tick_s = max(now - self._tick_s, 1e-3), now
            hops, self._hops = self._hops, []
            found = {'rate (Hz)': f'{len(hops) / seconds:.2f}'}
            if hops:
                found['latency mean (ms)'] = f'{1e3 * sum(hops) / len(hops):.1f}'
                found['latency max (ms)'] = f'{1e3 * max(hops):.1f}'
            found |= {name: str(self.counts[name]) for name in sorted(self.counts)}
            if self._last_error:
                found['last problem'] = self._last_error
        return found
