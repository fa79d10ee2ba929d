# SPDX-License-Identifier: Apache-2.0
"""mwstream: streams of Meta-World v3 episodes with labels from the simulator's state."""
