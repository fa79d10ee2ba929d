# SPDX-License-Identifier: Apache-2.0
"""What a suite finds: rows of figures with intervals, as a table and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from vljepa_ros.evaluate.statistics import Mean


@dataclass(frozen=True)
class Row:
    """One figure: of whom (ours, oracle, blind, ...), what, and the mark it must reach."""

    who: str
    what: str
    mean: Mean
    mark: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the mark is reached; None where there is none."""
        if self.mark is None:
            return None
        return self.mean.value <= self.mark if self.at_most else self.mean.value >= self.mark


@dataclass(frozen=True)
class Report:
    """All rows of one suite, and notes for the reader."""

    suite: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        rows = []
        for row in self.rows:
            numbers = {k: _plain(v) for k, v in asdict(row.mean).items()}
            rows.append(
                {'who': row.who, 'what': row.what, **numbers}
                | ({} if row.mark is None else {'mark': row.mark, 'reached': row.reached})
            )
        return {'suite': self.suite, 'rows': rows, 'notes': list(self.notes)}

    def as_text(self) -> str:
        """A Markdown table, as model cards have it."""
        lines = [f'### {self.suite}', '', '| | | value | 95% interval | n | mark |']
        lines.append('|---|---|---|---|---|---|')
        for row in self.rows:
            m = row.mean
            lines.append(
                f'| {row.who} | {row.what} | {m.value:.3f} | {m.low:.3f} - {m.high:.3f} '
                f'| {m.count} | {_mark(row)} |'
            )
        return '\n'.join([*lines, '', *(f'{note}' for note in self.notes)]).rstrip() + '\n'


def _plain(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else round(value, 6)


def _mark(row: Row) -> str:
    if row.mark is None:
        return ''
    sign = '<=' if row.at_most else '>='
    return f'{sign} {row.mark:g}: {"reached" if row.reached else "MISSED"}'
