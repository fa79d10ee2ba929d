# SPDX-License-Identifier: Apache-2.0
"""Creation of `transformers` modules without random initialization, which would take minutes."""

from __future__ import annotations

try:
    from transformers.initialization import no_init_weights
except ImportError:  # before transformers 5
    from transformers.modeling_utils import no_init_weights

__all__ = ['no_init_weights']
