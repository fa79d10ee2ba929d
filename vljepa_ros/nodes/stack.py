# SPDX-License-Identifier: Apache-2.0
"""All nodes in one process, each in its own executor, with one shared copy of the model."""

from __future__ import annotations

from vljepa_ros.nodes.change_detection import ChangeDetectionNode
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode


def factories() -> list[type]:
    """Return the node classes in data-flow order.

    Nodes stop in this order, so that later nodes receive the last messages of earlier ones.
    """
    return [PerceptionNode, ChangeDetectionNode, DecoderNode, QueryNode]
