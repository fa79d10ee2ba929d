# SPDX-License-Identifier: Apache-2.0
"""Expectations about recordings: a file of statements that `vljepa check` judges.

`read_expectations` reads the file, `watch` processes a recording, and `judge_all` compares them.
`check` does all three, for tests.
"""

from __future__ import annotations

from pathlib import Path

from vljepa_ros.core.protocols import Model
from vljepa_ros.expectations.judge import judge_all
from vljepa_ros.expectations.recording import watch
from vljepa_ros.expectations.results import Judged, Verdict
from vljepa_ros.expectations.spec import Expectations, read_expectations
from vljepa_ros.sources import open_source

__all__ = ['Expectations', 'Judged', 'Verdict', 'check', 'judge_all', 'read_expectations', 'watch']


def check(source: str | Path, expectations: str | Path, model: Model) -> list[Judged]:
    """Judge a recording, for example one that a launch test has made.

    Args:
        source: Bag, video, or folder of images.
        expectations: YAML file with the expectations.
        model: Model with both sides, see `vljepa_ros.load`.

    Returns:
        One result for each expectation, in the order of the file.

    Raises:
        InputError: The file or the recording is invalid.
    """
    expected = read_expectations(Path(expectations))
    return judge_all(expected, watch(model, open_source(Path(source)), expected))
