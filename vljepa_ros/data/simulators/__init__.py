# SPDX-License-Identifier: Apache-2.0
"""Simulators that make annotated streams; nothing general belongs here."""
