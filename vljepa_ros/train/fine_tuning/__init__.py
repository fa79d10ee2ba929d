# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: an installed model is trained on with people's own recordings and what they say."""
