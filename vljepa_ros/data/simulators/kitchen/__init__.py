# SPDX-License-Identifier: Apache-2.0
"""Streams of the Franka kitchen for the suite `transfer`; the scene is absent from training."""
