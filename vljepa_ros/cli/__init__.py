# SPDX-License-Identifier: Apache-2.0
"""The `vljepa` command and the helpers of its demo."""
