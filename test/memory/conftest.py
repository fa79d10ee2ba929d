# SPDX-License-Identifier: Apache-2.0
"""Fixture of the memory tests: reads wait for the writes before them, also on a busy machine."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reads and commits wait for up to 10 s until all writes are on the disk.

    A file that cannot be written ends the wait at once. A test of a disk that hangs sets `SLOW_S`.
    """
    monkeypatch.setattr('vljepa_ros.memory.write_queue.SLOW_S', 10.0)
