# SPDX-License-Identifier: Apache-2.0
"""Results of a suite: rows of metrics with intervals, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.statistics import Mean

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Row:
    """One metric `what` of the model or a baseline `who` (ours, oracle, blind, ...).

    `at_most`: the target is an upper bound. `above`: the value must exceed the target. `outcomes`:
    results per item, for paired comparisons with another model.
    """

    who: str
    what: str
    mean: Mean
    target: float | None = None
    at_most: bool = False
    above: bool = False
    outcomes: Outcomes | None = None

    @property
    def reached(self) -> bool | None:
        """Return whether the target is reached; None without a target."""
        if self.target is None:
            return None
        if self.above:
            return self.mean.value > self.target
        return self.mean.value <= self.target if self.at_most else self.mean.value >= self.target

    @property
    def wanted(self) -> str:
        """Return the target with its comparison sign; '' without a target."""
        if self.target is None:
            return ''
        return f'{"<=" if self.at_most else ">" if self.above else ">="} {self.target:.3g}'


def row_of(
    who: str, what: str, outcomes: Outcomes, target: float | None = None, at_most: bool = False
) -> Row:
    """Return a row whose value is the mean of `outcomes`; the row also stores `outcomes`."""
    return Row(who, what, outcomes.mean(), target, at_most, outcomes=outcomes)


@dataclass(frozen=True)
class Report:
    """Results of one suite: metrics, notes for the reader, and curves (points (x, y) by name)."""

    suite: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    curves: Mapping[str, Points] = field(default_factory=dict)

    def as_json(self, with_outcomes: bool = False) -> dict[str, Any]:
        """Return the report as JSON values; NaN and infinity become null."""
        rows = []
        for row in self.rows:
            numbers = {k: _plain(v) for k, v in asdict(row.mean).items()}
            rows.append(
                {'who': row.who, 'what': row.what, **numbers}
                | ({} if row.target is None else {'mark': row.target, 'reached': row.reached})
                | ({'outcomes': row.outcomes.as_json()} if with_outcomes and row.outcomes else {})
            )
        found = {'suite': self.suite, 'rows': rows, 'notes': list(self.notes)}
        curves = {
            name: [[_plain(x), _plain(y)] for x, y in points]
            for name, points in self.curves.items()
        }
        return found | ({'curves': curves} if curves else {})

    def as_text(self) -> str:
        """Return the report as a Markdown table with notes, for model cards."""
        lines = [f'### {self.suite}', '']
        if self.rows:
            lines += ['| | | value | 95% interval | n | target |', '|---' * 6 + '|']
        for row in self.rows:
            m = row.mean
            lines.append(
                f'| {row.who} | {row.what} | {m.value:.3f} | {_interval(m)} '
                f'| {m.count} | {_target(row)} |'
            )
        return '\n'.join([*lines, '', *(f'{note}' for note in self.notes)]).rstrip() + '\n'


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _interval(mean: Mean) -> str:
    """Return the interval as text; '' if it is NaN."""
    return '' if math.isnan(mean.low) else f'{mean.low:.3f} - {mean.high:.3f}'


def _target(row: Row) -> str:
    if row.target is None:
        return ''
    return f'{row.wanted}: {"reached" if row.reached else "MISSED"}'


def summary(reports: Sequence[Report]) -> str:
    """Return a Markdown table of all metrics with targets.

    Suites without a target are represented by all metrics of the evaluated model (`ours`).
    """
    lines = ['| suite | metric | value | 95% interval | target | reached |', '|---' * 6 + '|']
    for report in reports:
        with_target = [row for row in report.rows if row.target is not None]
        for row in with_target or [row for row in report.rows if row.who == 'ours']:
            m = row.mean
            reached = {True: 'yes', False: 'NO', None: ''}[row.reached]
            lines.append(
                f'| {report.suite} | {row.who}: {row.what} | {m.value:.3f} '
                f'| {_interval(m)} | {row.wanted} | {reached} |'
            )
    return '\n'.join(lines) + '\n'
