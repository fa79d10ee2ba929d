# SPDX-License-Identifier: Apache-2.0
"""Training of a text decoder on texts only, for models that are published without a decoder."""
