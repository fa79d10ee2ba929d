# SPDX-License-Identifier: Apache-2.0
"""Simulators that generate annotated streams for training and evaluation."""
