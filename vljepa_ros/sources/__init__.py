# SPDX-License-Identifier: Apache-2.0
"""Recorded streams as iterators of frames: rosbag2, video files, folders of pictures. No ROS."""

from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.opening import open_source

__all__ = ['Damaged', 'Source', 'open_source']
