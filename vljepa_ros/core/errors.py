# SPDX-License-Identifier: Apache-2.0
"""The errors that vljepa_ros raises on purpose, with their codes; everything else is a bug."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ErrorCode(IntEnum):
    """Kind of error (values equal the constants of Predict, Query, Search, Teach and Watch)."""

    OK = 0
    BAD_INPUT = 1
    BUSY = 2
    INACTIVE = 3
    NOT_STORED = 4
    MODEL_MISMATCH = 5
    INTERNAL = 6
    NO_FRAME = 7
    UNAVAILABLE = 8
    TIMEOUT = 9
    CANCELED = 10


class VljepaError(Exception):
    """Root of the tree. Its text is one line that names what was wrong."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL


class InputError(VljepaError):
    """Bad input from outside: an image, a prompt, a bag, a stamp, an argument."""

    code = ErrorCode.BAD_INPUT


class NotStoredError(InputError):
    """A question about a time of which nothing is stored."""

    code = ErrorCode.NOT_STORED


class OutputError(VljepaError):
    """A place that cannot be written to: no space left, not permitted, in the way."""


class DiskFullError(OutputError):
    """No space is left for a file that should be made or opened."""


class ModelError(VljepaError):
    """A model folder that is missing, damaged, of another shape, or asked for an absent device."""


class ModelMismatchError(VljepaError):
    """Vectors of different model ids were about to be compared."""

    code = ErrorCode.MODEL_MISMATCH


class BusyError(VljepaError):
    """A stated limit of work in hand was reached; ask again later."""

    code = ErrorCode.BUSY


class InactiveError(BusyError):
    """The node is not active; ask again when it is."""

    code = ErrorCode.INACTIVE


class NoFrameError(BusyError):
    """The model has not evaluated any frame yet; ask again later."""

    code = ErrorCode.NO_FRAME


class UnavailableError(BusyError):
    """A service that is needed is missing or does not answer; ask again later."""

    code = ErrorCode.UNAVAILABLE


class InternalError(VljepaError):
    """The other side failed unexpectedly; its log says more."""


_BY_CODE: dict[int, type[VljepaError]] = {
    error.code: error
    for error in (
        InputError,
        NotStoredError,
        ModelMismatchError,
        BusyError,
        InactiveError,
        NoFrameError,
        UnavailableError,
    )
}


def error_of(code: int, message: str) -> VljepaError:
    """Map a service's error code to an exception; unknown codes and INTERNAL: InternalError."""
    return _BY_CODE.get(code, InternalError)(message)
