# SPDX-License-Identifier: Apache-2.0
"""The `vljepa` command, and what its demo needs."""
