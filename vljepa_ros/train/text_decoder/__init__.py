# SPDX-License-Identifier: Apache-2.0
"""A Y-Decoder from texts alone, for models that came without one: `model/language/text_decoder.py`."""
