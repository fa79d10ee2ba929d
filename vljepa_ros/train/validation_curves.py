# SPDX-License-Identifier: Apache-2.0
"""Validation curves: runs suites of `vljepa evaluate` on the net in training."""

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
    """Return the model's metrics of the suites that need no decoder.

    The result is empty if no stream comes from mwstream.
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
