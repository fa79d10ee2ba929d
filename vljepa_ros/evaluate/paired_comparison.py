# SPDX-License-Identifier: Apache-2.0
"""Paired differences between two results of `vljepa evaluate SUITE --out` on the same items.

For each metric with outcomes in both files, the common items are compared. The interval of the
difference is from a paired bootstrap, which draws the same streams for both results. It is
narrower than that of independent samples, because hard items are hard for both models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import InputError
from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import more

SAME = ('split', 'views')  # keys that must be equal in both results
BASELINES = ('oracle', 'blind')  # rows that are not compared
# Parts of metrics' names in results of earlier versions, and their present names.
RENAMED = {
    'seen wording': 'training paraphrases',
    'held-out wording': 'held-out paraphrases',
    'right sentences': 'correct sentences',
    'F1: labelled': 'F1: labeled',
    'labelled F1': 'labeled F1',
}

Rows = dict[tuple[str, str], Outcomes]  # (who, what) of a row


def compare(first: Path, second: Path) -> list[Report]:
    """Return a report for each suite of both files: A (`first`), B (`second`) and B - A.

    Raises:
        InputError: A file is not a result, or the files have no items in common.
    """
    one, other = _read(first), _read(second)
    for key in SAME:
        if one.get(key) != other.get(key):
            raise InputError(
                f'{first} has {key} {one.get(key)!r}, {second} has {other.get(key)!r}: '
                'a paired comparison needs the same items'
            )
    ours, theirs = _suites(one, first), _suites(other, second)
    found = [_report(suite, ours[suite], theirs[suite]) for suite in ours if suite in theirs]
    found = [report for report in found if report.rows]
    if not found:
        raise InputError(
            f'{first} and {second} have no items in common: write both results with '
            '`vljepa evaluate SUITE --out FILE` on the same streams'
        )
    return found


def _report(suite: str, ours: Rows, theirs: Rows) -> Report:
    rows, lost = list[Row](), list[str]()
    for who, what in (key for key in ours if key in theirs):
        one, other = ours[who, what], theirs[who, what]
        known = set(other.ids)
        shared = [name for name in one.ids if name in known]
        if not shared:
            continue
        if left := len(one.ids) + len(other.ids) - 2 * len(shared):
            lost.append(f'{left} items of {what!r} are not compared: only one file has them.')
        a, b = one.select(shared).draws(), other.select(shared).draws()
        name = what if who == 'ours' else f'{who}: {what}'
        rows += [Row('A', name, a.interval()), Row('B', name, b.interval())]
        rows.append(Row('B - A', name, more(b, a)))
    return Report(suite, tuple(rows), tuple(lost))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except ValueError as error:
        raise InputError(f'{path}: not a JSON file: {error}') from error
    if not isinstance(found, dict) or not isinstance(found.get('suites'), list):
        raise InputError(f"{path}: not a result of `vljepa evaluate`: it has no list 'suites'")
    return found


def _suites(found: Mapping[str, Any], path: Path) -> dict[str, Rows]:
    try:
        return {
            suite['suite']: {
                (row['who'], _present(row['what'])): Outcomes.from_json(row['outcomes'])
                for row in suite['rows']
                if 'outcomes' in row and row['who'] not in BASELINES
            }
            for suite in found['suites']
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'{path}: not a result of `vljepa evaluate`: {error!r}') from error


def _present(name: str) -> str:
    """Return the current name of a metric, which may have had another name in earlier versions."""
    for before, now in RENAMED.items():
        name = name.replace(before, now)
    return name
