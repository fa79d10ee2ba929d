# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: a skipped test fails the run, unless the list below allows it.

A test that is skipped on every machine would go unnoticed. Therefore each entry names the tests,
their reason, and the place where they run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

PLUGIN = 'skip-policy'


@dataclass(frozen=True)
class AllowedSkip:
    """Tests that may be skipped: regular expressions of their id and of the reason."""

    tests: str
    reason: str
    runs: str  # place where they run


NO_3_14 = 'Python 3.10 to 3.13: mujoco, metaworld and ruptures have no wheels for 3.14'
ALLOWED = (
    AllowedSkip(
        r'test/launch/', r'launch_(testing|ros) is not installed', 'CI job `ros`: ROS from apt'
    ),
    AllowedSkip(
        r'test/data/simulators/mwstream/test_rendering\.py.*osmesa|'
        r'test/data/simulators/kitchen/test_streams\.py',
        r'libosmesa6',
        'where the Debian package libosmesa6 is installed, and in CI (PyPI has no such wheel)',
    ),
    AllowedSkip(
        r'test/data/simulators/mwstream/test_rendering\.py.*egl',
        r'libegl1|no device',
        'where the Debian package libegl1 is installed and EGL finds a device',
    ),
    AllowedSkip(
        r'test/sources/test_live_reader\.py.*rtsp',
        r'gir1\.2-gst-rtsp-server',
        "where Debian's RTSP server is installed, and in CI",
    ),
    AllowedSkip(
        r'test/report/', r'chromium is not installed', 'where Debian has chromium, and in CI'
    ),
    AllowedSkip(r'test/data/', r'mujoco', NO_3_14),
    AllowedSkip(r'test/benchmarks/', r"import 'ruptures'", NO_3_14),
    AllowedSkip(r'test/evaluate/test_cider\.py', r'pycocoevalcap', '`make test-all`'),
    AllowedSkip(r'test/packaging/test_ros_environment\.py', r'glibc 2\.33', 'Debian 12 or newer'),
    AllowedSkip(r'test/cli/test_stack_processes\.py', r'Linux only', 'Linux'),
)


def is_allowed(test: str, reason: str, allowed: tuple[AllowedSkip, ...] = ALLOWED) -> bool:
    """Return whether a skip is in the list."""
    return any(re.search(a.tests, test) and re.search(a.reason, reason) for a in allowed)


def reason_of(report: Any) -> str:
    """Return the reason why a test or a whole file was skipped."""
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)


class SkipPolicy:
    """Collects the skips of a run; any that is not allowed makes it fail."""

    def __init__(self) -> None:
        self.unexpected: dict[str, str] = {}  # test -> reason

    def _note(self, report: Any) -> None:
        if report.skipped and not is_allowed(report.nodeid, reason_of(report)):
            self.unexpected[report.nodeid] = reason_of(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that skips itself or is expected to fail."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that skips itself."""
        self._note(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the run fail."""
        # A worker of pytest-xdist reports to the process that started it, which decides.
        if self.unexpected and not hasattr(session.config, 'workerinput'):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the skips that are not allowed."""
        for test, reason in self.unexpected.items():
            terminalreporter.write_line(
                f'ERROR: {test} was skipped ({reason}); skip_policy.py does not allow that',
                red=True,
            )


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin for every run."""
    config.pluginmanager.register(SkipPolicy(), PLUGIN)
