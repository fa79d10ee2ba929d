# SPDX-License-Identifier: Apache-2.0
"""Views of a running stack, without ROS: its state as received from topics, and overlay images."""
