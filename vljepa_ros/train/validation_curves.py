# SPDX-License-Identifier: Apache-2.0
"""Validation during training: runs suites of `vljepa evaluate` on the current weights."""

from __future__ import annotations

from collections.abc import Sequence

from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.suites import SUITES
from vljepa_ros.model.registry import assemble
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.streaming.text_tower import TextTower

CURVES = ('classify', 'vqa')


def validate(net: VLJEPA, tower: TextTower, streams: Sequence[Stream]) -> dict[str, float]:
    """Evaluate a network in training with the suites `CURVES`, which need no Y-Decoder.

    Args:
        net: Network with vision side and Y-Encoder.
        tower: Text tower.
        streams: Validation streams.

    Returns:
        Values by name of the metric; empty if no stream is annotated with simulator tasks.
    """
    if not any(item.task for stream in streams for item in stream.annotations):
        return {}
    context = Context(assemble(net, tower, 'in training'), streams)
    return {
        f'{name}: {row.what}': row.mean.value
        for name in CURVES
        for row in SUITES[name](context).rows
        if row.who == 'ours' and row.mean.count
    }
