# SPDX-License-Identifier: Apache-2.0
"""Generation of annotated streams of Meta-World v3 episodes, named mwstream.

Labels come from the simulator's state.
"""
