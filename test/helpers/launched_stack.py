# SPDX-License-Identifier: Apache-2.0
"""Launch actions that the launch tests share; needs the packages launch and launch_ros."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource


def stack(namespace: str, model: str | Path, **arguments: str) -> IncludeLaunchDescription:
    """Include vljepa.launch.py on the CPU, with further launch arguments."""
    path = Path(get_package_share_directory('vljepa_ros')) / 'launch' / 'vljepa.launch.py'
    given = {'namespace': namespace, 'model': str(model), 'device': 'cpu', **arguments}
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(path)), launch_arguments=given.items()
    )


def in_domain(domain: int) -> list[SetEnvironmentVariable]:
    """Return the actions that confine the following processes to a ROS domain of this machine."""
    return [
        SetEnvironmentVariable('ROS_DOMAIN_ID', str(domain)),
        SetEnvironmentVariable('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST'),
    ]
