# SPDX-License-Identifier: Apache-2.0
"""Streams of the Franka kitchen, a scene that no model is trained on: the suite `transfer`."""
