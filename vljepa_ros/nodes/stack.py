# SPDX-License-Identifier: Apache-2.0
"""Nodes of the single-process stack: one executor per node, and one shared copy of the model."""

from __future__ import annotations

from vljepa_ros.nodes.change_detection import ChangeDetectionNode
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode


def factories() -> list[type]:
    """Return the node classes in the order of the data flow.

    Nodes are stopped in this order, so that each node receives the last messages of the previous
    nodes.
    """
    return [PerceptionNode, ChangeDetectionNode, DecoderNode, QueryNode]
