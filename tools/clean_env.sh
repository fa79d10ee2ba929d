#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command without the variables of an inherited ROS installation, which would break the
# installation in .venv. Same rule as clean() in vljepa_ros/cli/ros_environment.py (a test compares
# the two).
for name in $(awk 'BEGIN { for (name in ENVIRON) print name }' |
    grep -E '^((ROS|RMW|FASTDDS|FASTRTPS|CYCLONEDDS|COLCON|AMENT)_[A-Za-z0-9_]*|PYTHONPATH|PYTHONHOME|LD_LIBRARY_PATH|CMAKE_PREFIX_PATH|_ROS_WHEELS_BOOTSTRAP_COMPLETE)$' |
    grep -vE '^ROS_(LOG_DIR|HOME)$'); do
    unset "$name"
done
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
exec "$@"
