# SPDX-License-Identifier: Apache-2.0
"""Read recordings frame by frame without ROS: rosbag2 bags, video files, image folders."""

from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.factory import open_source

__all__ = ['Damaged', 'Source', 'open_source']
