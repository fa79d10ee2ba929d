# SPDX-License-Identifier: Apache-2.0
"""Import of `no_init_weights` for all supported versions of `transformers`.

This context manager creates modules without random initialization, which would take minutes.
"""

from __future__ import annotations

try:
    from transformers.initialization import no_init_weights
except ImportError:  # before transformers 5
    from transformers.modeling_utils import no_init_weights

__all__ = ['no_init_weights']
