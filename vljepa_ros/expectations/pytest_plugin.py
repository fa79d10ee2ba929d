# SPDX-License-Identifier: Apache-2.0
"""pytest plugin: each expectation of a file `*.expectations.yaml` is a test.

The file names its recording (`source`, relative to the file) and its model. Enable the plugin with
`-p vljepa_ros.expectations.pytest_plugin`. An expectation that is broken fails; one that cannot be
told is skipped, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.expectations.results import Judged, Verdict
from vljepa_ros.expectations.spec import read_expectations

SUFFIX = '.expectations.yaml'


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collect the files whose names end in `.expectations.yaml`."""
    if not file_path.name.endswith(SUFFIX):
        return None
    collected: pytest.File = ExpectationsFile.from_parent(parent, path=file_path)
    return collected


class ExpectationsFile(pytest.File):
    """An expectations file; its recording is processed once, before its first test."""

    _results: dict[int, Judged] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each expectation."""
        try:
            expected = read_expectations(self.path)
            if not expected.source:
                raise InputError(f"{self.path}: the key 'source' (the recording) is missing")
        except InputError as error:
            raise self.CollectError(str(error)) from error
        for item in expected.items:
            yield ExpectationTest.from_parent(self, name=item.name, line=item.line)

    def result(self, line: int) -> Judged:
        """Return the result of the expectation in a line of the file."""
        if self._results is None:
            from vljepa_ros.expectations import check
            from vljepa_ros.model import registry

            expected = read_expectations(self.path)
            recording = self.path.parent / expected.source
            results = check(recording, self.path, registry.load(expected.model))
            self._results = {result.expectation.line: result for result in results}
        return self._results[line]


class ExpectationTest(pytest.Item):
    """The test of one expectation."""

    def __init__(self, *, line: int, **options: Any) -> None:
        super().__init__(**options)
        self._line = line

    def runtest(self) -> None:
        """Fail if the expectation is broken; skip if it cannot be told."""
        assert isinstance(self.parent, ExpectationsFile)
        result = self.parent.result(self._line)
        if result.verdict is Verdict.BROKEN:
            raise BrokenExpectationError(result)
        if result.verdict is Verdict.CANNOT_TELL:
            pytest.skip(f'cannot tell: {result.reason}')

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Return one line for a broken expectation or an error of ours."""
        if isinstance(excinfo.value, (BrokenExpectationError, VljepaError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the place of the expectation."""
        return self.path, self._line - 1, self.name


class BrokenExpectationError(AssertionError):
    """Failure of a test."""

    def __init__(self, result: Judged) -> None:
        span = f', see {result.start_s:.1f} - {result.end_s:.1f} s' if result.start_s else ''
        super().__init__(f'{result.expectation.name}: {result.reason}{span}')
