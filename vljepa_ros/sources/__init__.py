# SPDX-License-Identifier: Apache-2.0
"""Recordings as iterators of frames, without ROS: rosbag2, video files, image folders."""

from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.opening import open_source

__all__ = ['Damaged', 'Source', 'open_source']
