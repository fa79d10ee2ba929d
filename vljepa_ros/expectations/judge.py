# SPDX-License-Identifier: Apache-2.0
"""Judge expectations against a recording that was watched.

A statement is true in a run of consecutive hops whose scores reach its `at_least`, and false in a
run below 0.4 times that score, as for Watch. A run must have `RUN` hops. If a statement has no
true run, but a run between the two scores, or if most hops are unfamiliar to the model or
missing, the verdict is "cannot tell".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import AbstainReason
from vljepa_ros.expectations.recording import Watched
from vljepa_ros.expectations.results import Judged, Verdict
from vljepa_ros.expectations.spec import (
    AnswerIs,
    Events,
    Expectation,
    Expectations,
    Never,
    Order,
    Throughout,
    Time,
    Within,
)
from vljepa_ros.query.watch_condition import RELEASE

RUN = 4  # consecutive hops that make a statement true or false; watch_hops has this default, too

HOLDS, BROKEN, CANNOT_TELL = Verdict.HOLDS, Verdict.BROKEN, Verdict.CANNOT_TELL


class Run(NamedTuple):
    """Consecutive hops: their first and last time in seconds, and their highest score."""

    start_s: float
    end_s: float
    score: float


class Scores(NamedTuple):
    """Scores (N,) of a statement, the times (N,) of its hops, and which are unfamiliar (N,)."""

    times_s: NDArray[np.float64]
    values: NDArray[np.float64]
    is_unfamiliar: NDArray[np.bool_]

    def between(self, start_s: float, end_s: float) -> Scores:
        """Return the scores of the hops in a span."""
        within = (self.times_s >= start_s - 1e-6) & (self.times_s <= end_s + 1e-6)
        return Scores(self.times_s[within], self.values[within], self.is_unfamiliar[within])

    def runs(self, which: NDArray[np.bool_], least: int = RUN) -> list[Run]:
        """Return the runs of at least `least` consecutive hops for which `which` (N,) is true."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], which.astype(int), [0]])))
        return [
            Run(self.times_s[a], self.times_s[b - 1], float(self.values[a:b].max()))
            for a, b in zip(edges[::2], edges[1::2], strict=True)
            if b - a >= least
        ]

    def true_runs(self, threshold: float) -> list[Run]:
        """Return the runs in which the statement is true."""
        return self.runs(~self.is_unfamiliar & (self.values >= threshold), self._least)

    def near_runs(self, threshold: float) -> list[Run]:
        """Return the runs in which the statement is not false."""
        return self.runs(~self.is_unfamiliar & (self.values >= RELEASE * threshold), self._least)

    def false_runs(self, threshold: float) -> list[Run]:
        """Return the runs in which the statement is false."""
        return self.runs(~self.is_unfamiliar & (self.values < RELEASE * threshold), self._least)

    @property
    def _least(self) -> int:
        return max(1, min(RUN, len(self.times_s)))

    def unseen(self, start_s: float, end_s: float, hop_s: float) -> str:
        """Return why the span cannot be judged, or ''."""
        expected = max((end_s - start_s) / hop_s, 1.0)
        if len(self.times_s) < 0.5 * expected:
            return 'less than half of the span was recorded'
        if self.is_unfamiliar.mean() > 0.5:
            return 'most of the span is unfamiliar to the model'
        return ''


def judge_all(expected: Expectations, seen: Watched) -> list[Judged]:
    """Judge all expectations.

    Raises:
        InputError: A time is after the end of the recording.
    """
    results = []
    for item in expected.items:
        try:
            results.append(JUDGES[type(item.kind)](item, seen))
        except InputError as error:
            raise InputError(f'{expected.path}, line {item.line}: {error}') from error
    return results


def _scores(item: Expectation, seen: Watched, text: str) -> Scores:
    track = seen.tracks[_camera(item, seen)]
    if not track.vectors:
        empty = np.zeros(0)
        return Scores(empty, empty, np.zeros(0, bool))
    values = seen.score(np.stack(track.vectors), text)
    return Scores(np.array(track.times_s), values.astype(float), np.array(track.is_unfamiliar))


def _camera(item: Expectation, seen: Watched) -> str:
    return item.camera or next(iter(seen.tracks))


def _span(seen: Watched, start: Time, end: Time) -> tuple[float, float]:
    """Return a span in seconds. Raises InputError if it is empty or outside of the recording."""
    start_s = seen.time(start)
    end_s = seen.time(end) if end else seen.length_s
    if start_s > seen.length_s + 1.0:
        raise InputError(f'{start_s:g} s is after the end of the recording ({seen.length_s:g} s)')
    if end_s < start_s:
        raise InputError(f'the span ends at {end_s:g} s, before its start at {start_s:g} s')
    return start_s, end_s


def _within(item: Expectation, seen: Watched) -> Judged:
    kind: Within = item.kind  # type: ignore[assignment]
    start_s, _ = _span(seen, kind.after, 0.0)
    end_s = start_s + kind.seconds
    scores = _scores(item, seen, kind.text)
    # A run that begins in time may be confirmed a little later.
    late_s = end_s + (RUN - 1) * seen.hop_s
    inside = scores.between(start_s, late_s)
    if runs := [run for run in inside.true_runs(item.at_least) if run.start_s <= end_s + 1e-6]:
        return _judged(item, seen, HOLDS, f'true from {runs[0].start_s:.1f} s', runs[0])
    return _not_true(item, seen, scores, start_s, end_s)


def _not_true(
    item: Expectation, seen: Watched, scores: Scores, start_s: float, end_s: float
) -> Judged:
    """Return the result of a statement without a run in which it is true."""
    inside = scores.between(start_s, end_s)
    whole = _whole(inside, start_s, end_s)
    if reason := inside.unseen(start_s, end_s, seen.hop_s):
        return _judged(item, seen, CANNOT_TELL, reason, whole)
    if runs := inside.near_runs(item.at_least):
        reason = f'{runs[0].score:.2f} is near the threshold {item.at_least:g}'
        return _judged(item, seen, CANNOT_TELL, reason, runs[0])
    reason = f'the highest score is {whole.score:.2f}'
    return _judged(item, seen, BROKEN, reason, whole)


def _whole(scores: Scores, start_s: float, end_s: float) -> Run:
    return Run(start_s, end_s, float(scores.values.max()) if len(scores.values) else 0.0)


def _throughout(item: Expectation, seen: Watched) -> Judged:
    kind: Throughout = item.kind  # type: ignore[assignment]
    start_s, end_s = _span(seen, kind.start, kind.end)
    inside = _scores(item, seen, kind.text).between(start_s, end_s)
    whole = _whole(inside, start_s, end_s)
    if runs := inside.false_runs(item.at_least):
        return _judged(item, seen, BROKEN, f'false from {runs[0].start_s:.1f} s', runs[0])
    if reason := inside.unseen(start_s, end_s, seen.hop_s):
        return _judged(item, seen, CANNOT_TELL, reason, whole)
    doubtful = inside.runs(inside.is_unfamiliar | (inside.values < item.at_least))
    if doubtful:
        reason = f'below the threshold {item.at_least:g} from {doubtful[0].start_s:.1f} s'
        return _judged(item, seen, CANNOT_TELL, reason, doubtful[0])
    return _judged(item, seen, HOLDS, 'true throughout', whole)


def _never(item: Expectation, seen: Watched) -> Judged:
    kind: Never = item.kind  # type: ignore[assignment]
    start_s, end_s = _span(seen, kind.start, kind.end)
    inside = _scores(item, seen, kind.text).between(start_s, end_s)
    if runs := inside.true_runs(item.at_least):
        return _judged(item, seen, BROKEN, f'true from {runs[0].start_s:.1f} s', runs[0])
    found = _not_true(item, seen, inside, start_s, end_s)
    return found if found.verdict is CANNOT_TELL else replace(found, verdict=HOLDS)


def _order(item: Expectation, seen: Watched) -> Judged:
    kind: Order = item.kind  # type: ignore[assignment]
    start_s, end_s = _span(seen, kind.start, kind.end)
    at_s, times = start_s, list[str]()
    for text in kind.texts:
        scores = _scores(item, seen, text).between(start_s, end_s)
        runs = scores.true_runs(item.at_least)
        later = [run for run in runs if run.start_s >= at_s]
        if later:
            at_s = later[0].start_s
            times.append(f'{at_s:.1f}')
        elif runs:
            reason = f"'{text}' is true from {runs[0].start_s:.1f} s, not after {at_s:.1f} s"
            return _judged(item, seen, BROKEN, reason, runs[0])
        else:
            found = _not_true(item, seen, scores, start_s, end_s)
            return replace(found, reason=f"'{text}': {found.reason}")
    reason = f'true from {", ".join(times)} s'
    return _judged(item, seen, HOLDS, reason, Run(start_s, at_s, 1.0))


def _events(item: Expectation, seen: Watched) -> Judged:
    kind: Events = item.kind  # type: ignore[assignment]
    camera = _camera(item, seen)
    count = sum(event.key.source == camera for event in seen.events)
    value = 60.0 * count / max(seen.length_s, 1e-9) if kind.per_minute else float(count)
    verdict = HOLDS if kind.at_least <= value <= kind.at_most else BROKEN
    unit = ' a minute' if kind.per_minute else ''
    if not seen.tracks[camera].times_s:
        verdict = CANNOT_TELL
    return _judged(item, seen, verdict, f'{value:.4g} events{unit}', Run(0.0, seen.length_s, 1.0))


def _answer(item: Expectation, seen: Watched) -> Judged:
    kind: AnswerIs = item.kind  # type: ignore[assignment]
    answer = seen.answers[item]
    if isinstance(answer, InputError):
        return Judged(item, CANNOT_TELL, str(answer), _camera(item, seen))
    run = Run(0.0, (answer.stamp_ns - seen.start_ns) / 1e9, answer.confidence)
    if answer.evidence:
        run = run._replace(start_s=(answer.evidence[0].start_ns - seen.start_ns) / 1e9)
    said = f"answered '{answer.answer}' ({answer.confidence:.2f})"
    if answer.abstained:
        reason = AbstainReason(answer.abstain_reason).name.lower().replace('_', ' ')
        return _judged(item, seen, CANNOT_TELL, f'abstained: {reason}', run)
    if answer.confidence < item.at_least:
        return _judged(item, seen, CANNOT_TELL, f'{said}, below {item.at_least:g}', run)
    verdict = HOLDS if answer.answer.strip() == kind.answer.strip() else BROKEN
    return _judged(item, seen, verdict, said, run)


def _judged(item: Expectation, seen: Watched, verdict: Verdict, reason: str, run: Run) -> Judged:
    end_s = run.end_s if math.isfinite(run.end_s) else seen.length_s
    return Judged(item, verdict, reason, _camera(item, seen), run.start_s, end_s, run.score)


JUDGES: dict[type[Any], Callable[[Expectation, Watched], Judged]] = {
    Within: _within,
    Throughout: _throughout,
    Never: _never,
    Order: _order,
    Events: _events,
    AnswerIs: _answer,
}
