# SPDX-License-Identifier: Apache-2.0
"""How a node is doing: counters, rates, latencies, and what went wrong lately. Knows no ROS.

Seconds here are of the steady clock. Any thread may report; the node asks once a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

LOG_EVERY_S = 5.0  # a trouble of one kind is logged at most this often; every one is counted
SHOWN_S = 5.0  # how long a trouble colours the diagnostics


class Level(IntEnum):
    """Values equal those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass
class _Trouble:
    level: Level
    text: str
    seen_s: float
    logged_s: float
    unlogged: int = 0


class Health:
    """Counts and remembers."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._conditions: dict[str, tuple[Level, str]] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._last_error = ''
        self._hops: list[float] = []
        self._tick_s = now_s()

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter that the diagnostics show."""
        with self._lock:
            self.counts[name] += by

    def output(self, latency_s: float) -> None:
        """Note one result and how long it took, for rate and latency."""
        with self._lock:
            self._hops.append(latency_s)

    def trouble(self, kind: str, text: str, level: Level = Level.WARN) -> str:
        """Note that something went wrong; returns the line to log, '' after one just now."""
        now = self._now_s()
        with self._lock:
            self.counts[kind] += 1
            self._last_error = text
            known = self._troubles.get(kind)
            if known is not None and now - known.logged_s < LOG_EVERY_S:
                known.level, known.text, known.seen_s = level, text, now
                known.unlogged += 1
                return ''
            more = (
                f' ({known.unlogged} more of its kind before)' if known and known.unlogged else ''
            )
            self._troubles[kind] = _Trouble(level, text, now, now)
            return text + more

    def condition(self, name: str, text: str, level: Level = Level.WARN) -> bool:
        """Set a lasting condition, or clear it with an empty text; True where that is news."""
        with self._lock:
            before = self._conditions.pop(name, None)
            if text:
                self._conditions[name] = (level, text)
            return (before or (Level.OK, ''))[1] != text

    def summary(self, fine: str) -> tuple[Level, str]:
        """The worst of what is wrong now, or `fine`."""
        now = self._now_s()
        with self._lock:
            wrong = list(self._conditions.values())
            wrong += [
                (t.level, t.text) for t in self._troubles.values() if now - t.seen_s < SHOWN_S
            ]
        if not wrong:
            return Level.OK, fine
        level = max(item[0] for item in wrong)
        return level, '; '.join(text for its, text in wrong if its == level)

    def values(self) -> dict[str, str]:
        """Counters, and the rate and latency since this was last asked."""
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
                found['last trouble'] = self._last_error
        return found
