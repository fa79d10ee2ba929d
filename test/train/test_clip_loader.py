# SPDX-License-Identifier: Apache-2.0
"""Clips that worker processes draw in advance arrive in the order of the steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic_streams import film

from vljepa_ros.data.format import Stream, read_stream, write_stream
from vljepa_ros.train.clip_loader import StepBatches
from vljepa_ros.train.config import Clips, VisionTraining

STAGE = VisionTraining(
    steps=7,
    short=Clips(3, 1, 1, 1),
    medium=Clips(2, 2, 2, 1),
    long=Clips(1, 4, 1, 1),
    medium_from=0.3,
    long_from=0.8,
)


@pytest.fixture
def streams(tmp_path: Path) -> list[Stream]:
    """Return two short streams."""
    return [read_stream(write_stream(tmp_path, film(f's{seed}', seed))) for seed in range(2)]


@pytest.mark.parametrize('processes', [0, 1, 3])
def test_every_step_gets_its_clips_in_order(streams: list[Stream], processes: int) -> None:
    batches = list(StepBatches(streams, 2, 0, STAGE, first=1).loaded(processes))
    assert [tuple(batch.frames.shape[:2]) for batch in batches] == [
        (3, 1),
        (3, 1),
        (2, 2),
        (2, 2),
        (2, 2),
        (1, 4),
    ]
    for batch in batches:
        assert len(batch.labels) == len(batch.frames)
        assert all(len(labels.annotations) == batch.frames.shape[1] for labels in batch.labels)


def test_processes_draw_different_clips(streams: list[Stream]) -> None:
    first, second, *_ = StepBatches(streams, 2, 0, STAGE).loaded(2)
    assert not np.array_equal(first.frames, second.frames)
