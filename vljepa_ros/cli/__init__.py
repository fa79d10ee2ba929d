# SPDX-License-Identifier: Apache-2.0
"""Subcommands of the `vljepa` command, and modules that they share."""
