# SPDX-License-Identifier: Apache-2.0
"""Write docs/results/tests.md from the last `make test-all`; usage: test_report.py XML JSON PAGE.

XML is pytest's JUnit file, JSON the report of coverage.py. The page states the commit, the date,
the machine, the number of tests, the skipped tests with their reasons, and the line coverage.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'vljepa_ros'


@dataclass(frozen=True)
class Outcome:
    """Result of a run: counts, wall time, and skipped tests by (file, reason)."""

    passed: int
    failed: int
    skipped: Counter[tuple[str, str]]
    seconds: float


def read_outcome(path: Path) -> Outcome:
    """Read pytest's JUnit file."""
    suites = list(ElementTree.parse(path).getroot().iter('testsuite'))
    skipped: Counter[tuple[str, str]] = Counter()
    total = failed = 0
    for case in (case for suite in suites for case in suite.iter('testcase')):
        total += 1
        failed += any(case.find(kind) is not None for kind in ('failure', 'error'))
        if (found := case.find('skipped')) is not None:
            file = (case.get('classname', '') or case.get('name', '')).replace('.', '/') + '.py'
            reason = found.get('message', '')
            if reason == 'collection skipped':  # of a whole file: (path, line, reason)
                reason = ast.literal_eval((found.text or '').strip())[2]
            skipped[file, reason.removeprefix('Skipped: ')] += 1
    seconds = sum(float(suite.get('time', 0)) for suite in suites)
    return Outcome(total - failed - skipped.total(), failed, skipped, seconds)


def read_coverage(path: Path) -> dict[str, tuple[int, int]]:
    """Return (lines, covered lines) by folder of the package, in alphabetical order."""
    lines: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for name, file in json.loads(path.read_text())['files'].items():
        parts = Path(name).parts
        below = parts[parts.index(PACKAGE) + 1 :]
        folder = f'{below[0]}/' if len(below) > 1 else 'modules outside of folders'
        lines[folder] += file['summary']['num_statements']
        covered[folder] += file['summary']['covered_lines']
    return {folder: (lines[folder], covered[folder]) for folder in sorted(lines)}


def make_page(outcome: Outcome, coverage: dict[str, tuple[int, int]], run: dict[str, str]) -> str:
    """Return the page in Markdown; `run` has further rows of the first table."""
    lines, covered = (sum(column) for column in zip(*coverage.values()))
    tests = f'{outcome.passed:,} passed, {outcome.failed} failed, '
    tests += f'{outcome.skipped.total()} skipped, in {outcome.seconds / 60:.0f} minutes'
    rows = run | {'tests': tests, 'line coverage': f'{covered / lines:.1%} of {lines:,} lines'}
    folders = ((name, f'{n:,}', f'{c / n:.1%}') for name, (n, c) in coverage.items() if n)
    skips = ((f'`{f}`', str(n), reason) for (f, reason), n in sorted(outcome.skipped.items()))
    return '\n'.join(
        [
            '# Tests',
            '',
            'The last complete run of `make test-all`, which writes this page at its end '
            '(`tools/test_report.py`). Subprocesses are',
            'included in the coverage.',
            '',
            *_table(('', ''), rows.items()),
            '',
            '## Line coverage by folder',
            '',
            *_table(('folder', 'lines', 'covered'), folders),
            '',
            '## Skipped tests',
            '',
            '[Development](../development.md#tests) states where these tests run.',
            '',
            *_table(('file', 'tests', 'reason'), skips),
            '',
        ]
    )


def describe_run(page: Path) -> dict[str, str]:
    """Return commit, time and machine."""
    commit = _git('rev-parse', '--short=12', 'HEAD') or 'unknown'
    changed = _git('status', '--porcelain', '--', '.', f':!{os.path.relpath(page, ROOT)}')
    date = _git('log', '-1', '--format=%cs') or 'unknown'
    release = platform.freedesktop_os_release().get('PRETTY_NAME', platform.system())
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    distro = (ROOT / '.venv' / 'requirements.sha256').read_text().split()[0]
    machine = (
        f'{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GB of memory, '
        f'{release}, Python {platform.python_version()}, ROS 2 {distro}'
    )
    today = datetime.now(timezone.utc).date().isoformat()
    state = f'{commit} of {date}' + (', with local changes' if changed else '')
    return {'commit': state, 'run on': today, 'machine': machine}


def _processor() -> str:
    found = re.search(r'^model name\s*: (.*)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    return ' '.join(found[1].split()) if found else platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ('---',) * len(head), *rows]
    return ['| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |' for row in lines]


if __name__ == '__main__':
    tests_xml, coverage_json, target = map(Path, sys.argv[1:])
    text = make_page(
        read_outcome(tests_xml), read_coverage(coverage_json), describe_run(target.resolve())
    )
    target.write_text(text, encoding='utf-8')
    print(f'results: {target}')
