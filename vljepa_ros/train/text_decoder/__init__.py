# SPDX-License-Identifier: Apache-2.0
"""Trains a text decoder for models without one, from texts alone (see `model/language`)."""
