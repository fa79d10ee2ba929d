# SPDX-License-Identifier: Apache-2.0
"""All nodes in one process: each in an executor of its own, the model loaded once for all."""

from __future__ import annotations

from vljepa_ros.nodes.change_detection import ChangeDetectionNode
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode


def factories() -> list[type]:
    """In the order of the data: what comes first ends first, so that the rest hears it."""
    return [PerceptionNode, ChangeDetectionNode, DecoderNode, QueryNode]
