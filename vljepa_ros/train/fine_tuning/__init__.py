# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of an installed model on a user's annotated recordings."""
