# SPDX-License-Identifier: Apache-2.0
"""Generation of mwstream: annotated streams of Meta-World v3 episodes.

Labels come from the simulator's state.
"""
