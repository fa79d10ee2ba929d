# SPDX-License-Identifier: Apache-2.0
"""Streams of the Franka kitchen, a scene absent from training, for the suite `transfer`."""
