# SPDX-License-Identifier: Apache-2.0
"""QoS profiles of all topics and services, as specified in docs/design.md section 3.

The parameters `qos_overrides.<topic>...` can override the profiles of topics.
"""

from __future__ import annotations

import copy

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions


def _profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


IMAGE = _profile(1, reliable=False)
VIDEO = _profile(100, reliable=False)  # a lost packet spoils the images up to the next key frame
STREAM = _profile(50)
EVENTS = _profile(50, latched=True)
MODEL_INFO = _profile(1, latched=True)
PROCESSED = _profile(50, latched=True)
OVERRIDABLE = QoSOverridingOptions(
    (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
)


def own(profile: QoSProfile) -> QoSProfile:
    """Return a copy of a profile, because rclpy writes overrides into the profile it receives."""
    return copy.copy(profile)


def service(depth: int) -> QoSProfile:
    """Return the profile of a service, client or action that queues `depth` requests."""
    return _profile(depth)
