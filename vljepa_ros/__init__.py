# SPDX-License-Identifier: Apache-2.0
"""Streaming VL-JEPA for ROS 2: embeddings, text events and answers from camera streams."""

from pkgutil import extend_path

# The interfaces that rosidl generates are installed as a second part of this package.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
