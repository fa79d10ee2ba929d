# SPDX-License-Identifier: Apache-2.0
"""The GitHub workflow runs commands that exist, on the versions that are supported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())
JOBS: dict[str, Any] = WORKFLOW['jobs']
COMMANDS = [step['run'] for job in JOBS.values() for step in job['steps'] if 'run' in step]


def test_ci_calls_existing_make_targets() -> None:
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    called = {name for text in COMMANDS for name in re.findall(r'^make ([a-z-]+)', text, re.M)}
    local = set(re.findall(r'make ([a-z-]+)', (ROOT / '.ci' / 'run').read_text()))
    assert local <= called <= targets and 'test-all' in called


def test_the_matrix_covers_all_pythons_and_distributions() -> None:
    matrix = JOBS['test']['strategy']['matrix']
    assert matrix['python'] == ['3.10', '3.11', '3.12', '3.13', '3.14']
    files = {path.stem.removeprefix('ros-') for path in (ROOT / 'requirements').glob('ros-*')}
    assert set(matrix['distro']) == set(JOBS['ros']['strategy']['matrix']['distro']) == files
    install = (ROOT / 'docs' / 'install.md').read_text()
    assert f'Python {matrix["python"][0]} to {matrix["python"][-1]}' in install


def test_every_requirements_file_of_the_workflow_exists() -> None:
    names = re.findall(r'requirements/[\w.-]+', ' '.join(COMMANDS))
    assert names and all((ROOT / name).is_file() for name in names)


def test_every_job_except_the_long_one_runs_on_each_change() -> None:
    """YAML reads the key `on` as true."""
    triggers = WORKFLOW[True]
    assert set(triggers) == {'push', 'pull_request', 'schedule'}
    assert [name for name, job in JOBS.items() if 'if' in job] == ['test-all']
