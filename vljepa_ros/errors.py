# SPDX-License-Identifier: Apache-2.0
"""The errors that vljepa_ros raises on purpose; everything else is a bug."""

from __future__ import annotations


class VljepaError(Exception):
    """Root of the tree. Its text is one line that names what was wrong."""


class InputError(VljepaError):
    """Bad input from outside: an image, a prompt, a bag, a stamp, an argument."""


class NotHeldError(InputError):
    """A question about a time of which nothing is kept."""


class OutputError(VljepaError):
    """A place that cannot be written to: no space left, not permitted, in the way."""


class DiskFullError(OutputError):
    """No space is left for a file that should be made or opened."""


class ModelError(VljepaError):
    """A model folder that is missing, damaged, of another shape, or asked for an absent device."""


class ModelMismatchError(VljepaError):
    """Vectors of different model ids were about to be compared."""


class BusyError(VljepaError):
    """A stated limit of work in hand was reached; ask again later."""
